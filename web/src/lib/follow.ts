// Follows a stream of events of the API for as long as somebody looks: after a lost connection it
// goes on where it was, and while the page is hidden it holds no connection, of which a browser has
// six for all of its tabs.
import { problem, send } from './api/client';
import { connection } from './connection.svelte';
import { Problem } from './problem';
import { SseParser, type Message } from './sse';

const PAUSE_MS = 300;
const PAUSE_MS_MAX = 5_000;

export interface Following {
	/** Messages in their order, as many as came at once; `true` ends the stream. */
	onMessages(messages: Message[]): boolean | void;
	/** The stream is open, or it was lost and is tried again. */
	onOpen?(open: boolean): void;
	/** The API refuses it; it is not tried again. */
	onRefused?(problem: Problem): void;
}

/** Begins, and gives what ends it. */
export function follow(path: string, following: Following): () => void {
	const end = new AbortController();
	void run(path, following, end.signal);
	return () => end.abort();
}

async function run(path: string, following: Following, end: AbortSignal) {
	let last = '';
	let pause = PAUSE_MS;
	while (!end.aborted) {
		await shown(end);
		const one = new AbortController();
		const stop = () => one.abort();
		const hide = () => document.hidden && one.abort();
		end.addEventListener('abort', stop);
		document.addEventListener('visibilitychange', hide);
		try {
			const headers: Record<string, string> = { accept: 'text/event-stream' };
			if (last) headers['last-event-id'] = last;
			const answer = await send(path, { headers, signal: one.signal, cache: 'no-store' });
			if (!answer.ok || !answer.body) {
				// What is full or away is tried again; the rest stays as it is.
				if (answer.status < 500 && answer.status !== 429)
					return following.onRefused?.(await problem(answer));
			} else {
				following.onOpen?.(true);
				pause = PAUSE_MS;
				const parser = new SseParser();
				const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
				for (;;) {
					const { done, value } = await reader.read();
					if (done) break;
					const messages = parser.push(value);
					if (messages.length === 0) continue;
					last = messages.at(-1)?.id || last;
					if (following.onMessages(messages)) return one.abort();
				}
				// A stream that ends where it has no end was cut.
				if (!end.aborted && !document.hidden) connection.lost();
			}
		} catch {
			if (!end.aborted && !document.hidden) connection.lost();
		} finally {
			end.removeEventListener('abort', stop);
			document.removeEventListener('visibilitychange', hide);
		}
		if (end.aborted) return;
		following.onOpen?.(false);
		await new Promise((done) => setTimeout(done, pause));
		pause = Math.min(pause * 2, PAUSE_MS_MAX);
	}
}

/** Waits until somebody can see the page. */
function shown(end: AbortSignal): Promise<void> {
	if (!document.hidden) return Promise.resolve();
	return new Promise((done) => {
		const look = () => {
			if (document.hidden && !end.aborted) return;
			document.removeEventListener('visibilitychange', look);
			done();
		};
		document.addEventListener('visibilitychange', look);
		end.addEventListener('abort', look);
	});
}
