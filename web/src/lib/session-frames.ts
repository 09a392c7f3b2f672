// What a session with a command sends and gets over its WebSocket: binary frames whose first byte
// says which stream they are of, and text frames that say the rest.

const STDIN = 0;
const STDERR = 2;

export type Said =
	| { is: 'output'; bytes: Uint8Array; stderr: boolean }
	| { is: 'exit'; code: number; oom: boolean }
	| { is: 'error'; text: string }
	| { is: 'nothing' };

/** What somebody typed, as a frame. */
export function typed(text: string): Uint8Array {
	const bytes = new TextEncoder().encode(text);
	const frame = new Uint8Array(bytes.length + 1);
	frame[0] = STDIN;
	frame.set(bytes, 1);
	return frame;
}

export function resized(rows: number, columns: number): string {
	return JSON.stringify({ resize: { rows, columns } });
}

export function heard(data: string | ArrayBuffer): Said {
	if (typeof data !== 'string') {
		const bytes = new Uint8Array(data);
		return { is: 'output', bytes: bytes.subarray(1), stderr: bytes[0] === STDERR };
	}
	try {
		const said = JSON.parse(data) as { exit?: { code: number; oom?: boolean }; error?: string };
		if (said.exit) return { is: 'exit', code: said.exit.code, oom: said.exit.oom ?? false };
		if (said.error !== undefined) return { is: 'error', text: said.error };
	} catch {
		// Of a form that we do not know.
	}
	return { is: 'nothing' };
}
