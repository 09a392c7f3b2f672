// What the API refuses, and why (RFC 9457).
import type { components } from '../../api/schema';

type Body = components['schemas']['Problem'];

export class Problem extends Error {
	readonly status: number;
	readonly kind: string;
	/** Id of the request, for the operator's log. */
	readonly request: string | undefined;
	readonly fields: { pointer: string; detail: string }[];

	constructor(status: number, body: Partial<Body> | undefined) {
		const fields = body?.errors ?? [];
		const said = body?.detail ?? body?.title ?? `the server answered ${status}`;
		const wrong = fields.map((field) => `${field.pointer.replace(/^\//, '')}: ${field.detail}`);
		super(fields.length > 0 && !body?.detail ? wrong.join('; ') : said);
		this.status = status;
		this.kind = body?.type ?? 'unknown';
		this.request = body?.instance ?? undefined;
		this.fields = fields;
	}
}

/** What to tell of anything that was thrown. */
export function told(error: unknown): string {
	if (error instanceof Problem) return error.message;
	if (error instanceof TypeError) return 'the platform does not answer';
	return error instanceof Error ? error.message : String(error);
}
