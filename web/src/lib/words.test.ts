import { expect, test } from 'vitest';
import { ago, berth, bytes, count, length, quoted, short } from './words';

test('times are as long as they need to be', () => {
	expect(ago(0, 4_000)).toBe('just now');
	expect(ago(0, 59_000)).toBe('59 s ago');
	expect(ago(0, 3_600_000)).toBe('1 h ago');
	expect(ago(5_000, 0)).toBe('just now');
	expect(ago(0, 86_400_000 * 3)).toBe('3 days ago');
	expect(length(300)).toBe('0.3 s');
	expect(length(15_100)).toBe('15 s');
	expect(length(125_000)).toBe('2 min 5 s');
	expect(length(3_720_000)).toBe('1 h 2 min');
});

test('sizes and counts', () => {
	expect(bytes(512)).toBe('512 B');
	expect(bytes(13_688_832)).toBe('13.1 MiB');
	expect(bytes(1024 ** 4 * 2000)).toBe('2000 TiB');
	expect(count(1, 'instance')).toBe('1 instance');
	expect(count(0, 'instance')).toBe('0 instances');
	expect(short('sha256:9208ccf1de4e')).toBe('9208ccf');
});

test('a command is read back by a shell as it was meant', () => {
	expect(berth('config', 'set', 'A=b c')).toBe("berth config set 'A=b c'");
	expect(quoted("it's")).toBe(`'it'\\''s'`);
	expect(quoted('$(reboot)')).toBe("'$(reboot)'");
	expect(quoted('')).toBe("''");
});
