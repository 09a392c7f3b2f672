import { expect, test } from 'vitest';
import { addLine, type Step } from './build-steps';

function steps(text: string): Step[] {
	const found: Step[] = [];
	text.split('\n').forEach((line, at) => addLine(found, { number: at + 1, line }));
	return found;
}

test('headings begin steps, and what is said of time is added up', () => {
	const found = steps(
		'-----> Node.js 22\n       unpacking Node 22 (1.4 s)\n       (2.3 s)\n-----> Built 9208 in 15.1 s\n=====> Application deployed: v1\n       http://shop.localhost'
	);
	expect(found.map((step) => [step.title, step.seconds?.toFixed(1)])).toEqual([
		['Node.js 22', '3.7'],
		['Built 9208 in 15.1 s', '15.1'],
		['Application deployed: v1', undefined]
	]);
	expect(found[2]?.last).toBe(true);
	expect(found[2]?.lines[0]?.line).toBe('http://shop.localhost');
});

test('an error marks its step', () => {
	expect(steps('-----> Building\n !     no such file').map((step) => step.failed)).toEqual([true]);
});

test('lines before a heading are kept', () => {
	expect(steps('odd')[0]?.lines).toHaveLength(1);
});
