import { expect, test } from 'vitest';
import { SseParser } from './sse';

test('a message is given when its empty line has come, however it is cut', () => {
	const text = ': hello\nid: 7\nevent: app.created\ndata: {"a":\ndata: 1}\n\n';
	for (let cut = 0; cut <= text.length; cut++) {
		const parser = new SseParser();
		const found = [...parser.push(text.slice(0, cut)), ...parser.push(text.slice(cut))];
		expect(found).toEqual([{ id: '7', event: 'app.created', data: '{"a":\n1}' }]);
	}
});

test('lines may end as on any system', () => {
	const parser = new SseParser();
	const found = [...parser.push('data: a\r'), ...parser.push('\ndata: b\r\n\r'), ...parser.push('\n')];
	expect(found.map((message) => message.data)).toEqual(['a\nb']);
});

test('comments and empty messages are nothing', () => {
	expect(new SseParser().push(':\n\nevent: x\n\n')).toEqual([]);
});

test('the id stays until another comes', () => {
	const found = new SseParser().push('id: 1\ndata: a\n\ndata: b\n\n');
	expect(found.map((message) => message.id)).toEqual(['1', '1']);
});
