// Lines through numbers, as SVG paths, and what is told of them in words.
import { bytes } from './words';

/** Through all values from left to right, within a box that holds 0 and at least `least`; where
 * nothing was measured, there is a gap. */
export function line(
	values: (number | null)[],
	width: number,
	height: number,
	most = Math.max(0, ...known(values))
): string {
	const least = Math.min(0, ...known(values));
	const span = most - least || 1;
	const step = values.length > 1 ? width / (values.length - 1) : 0;
	let path = '';
	let drawing = false;
	values.forEach((value, at) => {
		if (value === null) {
			drawing = false;
			return;
		}
		const y = height - ((value - least) / span) * height;
		path += `${drawing ? 'L' : 'M'}${(at * step).toFixed(1)} ${y.toFixed(1)}`;
		drawing = true;
	});
	return path;
}

export function known(values: (number | null)[]): number[] {
	return values.filter((value) => value !== null);
}

/** The last number that was measured. */
export function last(values: (number | null)[]): number | undefined {
	return known(values).at(-1);
}

/** A number with its unit, as the API names units. */
export function measured(value: number, unit: string): string {
	const short = (number: number) =>
		number >= 100 ? String(Math.round(number)) : String(Number(number.toPrecision(2)));
	if (unit === 'B') return bytes(value);
	if (unit === 'B/s') return `${bytes(value)}/s`;
	if (unit === '1/s') return `${short(value)} a second`;
	if (unit === '1') return short(value);
	return `${short(value)} ${unit}`;
}
