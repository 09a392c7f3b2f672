import { expect, test } from 'vitest';
import { heard, resized, typed } from './session-frames';

test('what is typed goes as standard input, in UTF-8', () => {
	expect([...typed('ä')]).toEqual([0, 0xc3, 0xa4]);
	expect(resized(24, 80)).toBe('{"resize":{"rows":24,"columns":80}}');
});

test('output, ends and errors are told apart, and what is not known is nothing', () => {
	const output = heard(new Uint8Array([2, 65]).buffer);
	expect(output).toMatchObject({ is: 'output', stderr: true });
	expect(heard('{"exit":{"code":137,"oom":true}}')).toEqual({ is: 'exit', code: 137, oom: true });
	expect(heard('{"error":"lost"}')).toEqual({ is: 'error', text: 'lost' });
	expect(heard('{"new":1}')).toEqual({ is: 'nothing' });
	expect(heard('not JSON')).toEqual({ is: 'nothing' });
});
