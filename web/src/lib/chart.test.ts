import { expect, test } from 'vitest';
import { last, line, measured } from './chart';

test('a line goes through its values, with 0 at the bottom', () => {
	expect(line([0, 10], 100, 50)).toBe('M0.0 50.0L100.0 0.0');
	expect(line([-5, 5], 10, 10)).toBe('M0.0 10.0L10.0 0.0');
	expect(line([3], 10, 10)).toBe('M0.0 0.0');
	expect(line([0, 0], 10, 10)).toBe('M0.0 10.0L10.0 10.0');
	expect(line([], 10, 10)).toBe('');
});

test('where nothing was measured there is no line', () => {
	expect(line([1, null, 1], 10, 10)).toBe('M0.0 0.0M10.0 0.0');
	expect(last([1, 2, null])).toBe(2);
	expect(last([null])).toBeUndefined();
});

test('numbers are told with their units', () => {
	expect(measured(0.1234, 'cores')).toBe('0.12 cores');
	expect(measured(1_048_576, 'B')).toBe('1.0 MiB');
	expect(measured(250.4, '1/s')).toBe('250 a second');
	expect(measured(3, '1')).toBe('3');
});
