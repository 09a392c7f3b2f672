// Something that is read from the API and read again when it may have changed.
import { connection } from './connection.svelte';
import { onEvent, type Event } from './events.svelte';
import { Problem, told } from './problem';

/** Changes come in groups: one reading for all that follow each other so quickly. */
const SETTLE_MS = 120;

export class Resource<T> {
	data = $state.raw<T | undefined>(undefined);
	/** Why it could not be read. */
	problem = $state<string | undefined>(undefined);
	/** It is not there, or the caller may not know of it. */
	missing = $state(false);
	forbidden = $state(false);
	#version = $state(0);
	#timer: ReturnType<typeof setTimeout> | undefined;

	constructor(read: (signal: AbortSignal) => Promise<T>) {
		$effect(() => {
			void this.#version;
			void connection.returns;
			const end = new AbortController();
			read(end.signal).then(
				(data) => {
					if (end.signal.aborted) return;
					this.data = data;
					this.problem = undefined;
					this.missing = this.forbidden = false;
				},
				(error: unknown) => {
					if (end.signal.aborted) return;
					this.missing = error instanceof Problem && error.status === 404;
					this.forbidden = error instanceof Problem && error.status === 403;
					// What was read stays while the platform is away: the banner says so.
					if (error instanceof TypeError && this.data !== undefined) return;
					this.problem = told(error);
				}
			);
			return () => end.abort();
		});
	}

	get loading() {
		return this.data === undefined && this.problem === undefined;
	}

	/** Reads it again, now or in a moment with others. */
	again() {
		this.#version += 1;
	}

	soon() {
		this.#timer ??= setTimeout(() => {
			this.#timer = undefined;
			this.again();
		}, SETTLE_MS);
	}
}

/** Reads now, when what `read` depends on changes, when the platform is back, and after each event
 * that `when` says yes to. */
export function resource<T>(
	read: (signal: AbortSignal) => Promise<T>,
	when?: (event: Event) => boolean
): Resource<T> {
	const made = new Resource(read);
	if (when) onEvent((event) => when(event) && made.soon());
	return made;
}
