import { expect, test } from 'vitest';
import { part } from './window';

test('what is drawn is bounded, however long the list is', () => {
	for (const top of [0, 1, 999, 1_000_000, 1_999_999, 9e9]) {
		const { from, to } = part(100_000, 20, top, 600);
		expect(to - from).toBeLessThanOrEqual(71);
		expect(to - from).toBeGreaterThan(0);
		expect(to).toBeLessThanOrEqual(100_000);
	}
});

test('what is seen is drawn', () => {
	const { from, to } = part(1_000, 20, 10_000, 600);
	expect(from).toBeLessThanOrEqual(500);
	expect(to).toBeGreaterThanOrEqual(530);
	expect(part(0, 20, 0, 600)).toEqual({ from: 0, to: 0 });
	expect(part(3, 20, 0, 600)).toEqual({ from: 0, to: 3 });
});
