import { expect, test } from 'vitest';
import { Lines, wanted, type Line } from './lines';

function line(seq: number, instance = 'a'): Line {
	return { at: '', source: 'web.1', instance, seq, stream: 'stdout', line: `Line ${seq}` };
}

test('a line that comes again is left out, for each instance by itself', () => {
	const lines = new Lines(10);
	lines.add([line(1), line(2), line(1, 'b')]);
	expect(lines.add([line(2), line(2, 'b'), line(3)])).toHaveLength(2);
	expect(lines.all).toHaveLength(5);
});

test('a hundred thousand lines leave the newest', () => {
	const lines = new Lines(1_000);
	for (let seq = 0; seq < 100_000; seq += 100)
		lines.add(Array.from({ length: 100 }, (_, at) => line(seq + at)));
	expect(lines.all.length).toBeLessThanOrEqual(1_100);
	expect(lines.all.at(-1)?.seq).toBe(99_999);
	expect(lines.dropped + lines.all.length).toBe(100_000);
});

test('lines are found by process and by text', () => {
	expect(wanted(line(7), 'web', 'line 7')).toBe(true);
	expect(wanted(line(7), 'worker', '')).toBe(false);
	expect(wanted(line(7), '', 'x')).toBe(false);
});
