// The lines of a log that are kept: bounded, without repetitions, and searched.

export interface Line {
	at: string;
	source: string;
	instance: string;
	seq: number;
	stream: string;
	line: string;
}

export class Lines {
	#kept: Line[] = [];
	/** The last position of each instance: after a lost connection some lines come again. */
	#seen = new Map<string, number>();
	/** Lines that had to go. */
	dropped = 0;

	constructor(readonly max: number) {}

	get all(): readonly Line[] {
		return this.#kept;
	}

	/** Gives those that are new. */
	add(lines: Line[]): Line[] {
		const fresh = lines.filter((line) => {
			const seen = this.#seen.get(line.instance);
			if (seen !== undefined && line.seq <= seen) return false;
			this.#seen.set(line.instance, line.seq);
			return true;
		});
		this.#kept.push(...fresh);
		// A tenth at once: to cut off one at a time costs a copy for every line.
		if (this.#kept.length > this.max * 1.1) {
			const over = this.#kept.length - this.max;
			this.#kept = this.#kept.slice(over);
			this.dropped += over;
		}
		return fresh;
	}

	clear() {
		this.#kept = [];
		this.dropped = 0;
	}
}

/** Whether a line is wanted: of a process, and with a text in it, in capitals or not. */
export function wanted(line: Line, process: string, text: string): boolean {
	const ofProcess = process === '' || line.source.split('.')[0] === process;
	return ofProcess && (text === '' || line.line.toLowerCase().includes(text));
}
