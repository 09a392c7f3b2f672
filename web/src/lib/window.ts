// Which rows of a long list are in the document: those that are seen, and some around them.

export interface Part {
	/** First row that is drawn. */
	from: number;
	/** First row after them. */
	to: number;
}

/** Rows of one height, in pixels, of which `height` pixels from `top` on are seen. */
export function part(rows: number, rowHeight: number, top: number, height: number, around = 20): Part {
	const last = Math.max(0, rows);
	const first = Math.max(0, Math.min(last, Math.floor(top / rowHeight)) - around);
	const from = Math.min(first, Math.max(0, last - 1));
	const seen = Math.ceil(Math.max(0, height) / rowHeight) + 1;
	return { from: rows > 0 ? from : 0, to: Math.min(last, from + seen + 2 * around) };
}
