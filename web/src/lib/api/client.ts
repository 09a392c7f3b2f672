// The public API of Berth, with the types of its document.
import createClient from 'openapi-fetch';
import { connection } from '../connection.svelte';
import { Problem } from '../problem';
import type { components, paths } from '../../../api/schema';

export type Schemas = components['schemas'];

/** Called when the platform knows nobody by our cookie any more. */
let signedOut = () => {};
export function onSignedOut(call: () => void) {
	signedOut = call;
}

/** A request of ours: what it could not reach is told to the connection, 401 to the session. */
export async function send(request: Request | string, init?: RequestInit): Promise<Response> {
	let answer: Response;
	try {
		answer = await fetch(request, init);
	} catch (error) {
		if (!(error instanceof DOMException && error.name === 'AbortError')) connection.lost();
		throw error;
	}
	if (answer.status === 401) signedOut();
	// Of what stands before the platform, where it is away.
	if (answer.status === 502 || answer.status === 504) connection.lost();
	return answer;
}

export const api = createClient<paths>({ baseUrl: location.origin, fetch: send });

/** What an answer holds: of those that can be a stream too, the JSON. A
 * refusal is thrown as a `Problem`. */
export async function must<T>(
	answer: Promise<{ data?: T; error?: unknown; response: Response }>
): Promise<Exclude<NonNullable<T>, string>> {
	const { data, error, response } = await answer;
	if (!response.ok) throw await problem(response, error);
	return data as Exclude<NonNullable<T>, string>;
}

export async function problem(response: Response, body?: unknown): Promise<Problem> {
	const read = body ?? (await response.json().catch(() => undefined));
	return new Problem(response.status, typeof read === 'object' ? (read ?? undefined) : undefined);
}

interface Page<T> {
	items: T[];
	next_page_token?: string | null;
}

/** Every item of a list, page by page, up to `max`. */
export async function all<T>(
	page: (query: { limit: number; page_token?: string }) => Promise<Page<T>>,
	max = 5_000
): Promise<T[]> {
	const found: T[] = [];
	let token: string | undefined;
	do {
		const next: Page<T> = await page({ limit: 200, ...(token ? { page_token: token } : {}) });
		found.push(...next.items);
		token = next.next_page_token ?? undefined;
	} while (token && found.length < max);
	return found;
}
