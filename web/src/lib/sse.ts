// Server-sent events (HTML standard, section 9.2.6) from a stream of text. Read by hand and not with
// EventSource, which says neither why a stream was refused nor lets another page resume it.

export interface Message {
	/** Id to continue after; empty where none was given. */
	id: string;
	/** `message` where the stream names none. */
	event: string;
	data: string;
}

export class SseParser {
	#rest = '';
	#data: string[] = [];
	#event = '';
	#id = '';
	#afterReturn = false;

	/** Takes the next piece, and gives the messages that it completes. */
	push(chunk: string): Message[] {
		const found: Message[] = [];
		// A line may end with \r\n, and the piece between the two.
		if (this.#afterReturn && chunk.startsWith('\n')) chunk = chunk.slice(1);
		this.#afterReturn = chunk.endsWith('\r');
		const lines = (this.#rest + chunk).split(/\r\n|\n|\r/);
		this.#rest = lines.pop() ?? '';
		for (const line of lines) {
			const message = this.#line(line);
			if (message) found.push(message);
		}
		return found;
	}

	#line(line: string): Message | undefined {
		if (line === '') {
			const data = this.#data.join('\n');
			const message = { id: this.#id, event: this.#event || 'message', data };
			const empty = this.#data.length === 0;
			this.#data = [];
			this.#event = '';
			return empty ? undefined : message;
		}
		const colon = line.indexOf(':');
		if (colon === 0) return undefined;
		const field = colon < 0 ? line : line.slice(0, colon);
		const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
		if (field === 'data') this.#data.push(value);
		else if (field === 'event') this.#event = value;
		else if (field === 'id' && !value.includes('\0')) this.#id = value;
		return undefined;
	}
}
