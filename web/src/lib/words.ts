// Numbers, times and commands as people read them.

/** How long ago, from two moments in milliseconds: `just now`, `5 min ago`. */
export function ago(at: number, now: number): string {
	const seconds = Math.max(0, Math.round((now - at) / 1000));
	if (seconds < 10) return 'just now';
	if (seconds < 60) return `${seconds} s ago`;
	const minutes = Math.floor(seconds / 60);
	if (minutes < 60) return `${minutes} min ago`;
	const hours = Math.floor(minutes / 60);
	if (hours < 48) return `${hours} h ago`;
	return `${Math.floor(hours / 24)} days ago`;
}

/** A length in milliseconds: `0.3 s`, `2 min 5 s`. */
export function length(ms: number): string {
	const seconds = Math.max(0, ms) / 1000;
	if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
	if (seconds < 59.5) return `${Math.round(seconds)} s`;
	const whole = Math.round(seconds);
	const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
	return hours > 0 ? `${hours} h ${minutes} min` : `${minutes} min ${whole % 60} s`;
}

/** Bytes: `512 B`, `13.1 MiB`. */
export function bytes(count: number): string {
	const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
	let unit = 0;
	while (count >= 1024 && unit < units.length - 1) {
		count /= 1024;
		unit += 1;
	}
	return `${unit === 0 || count >= 100 ? Math.round(count) : count.toFixed(1)} ${units[unit]}`;
}

/** `2 instances`, `1 instance`. */
export function count(number: number, word: string): string {
	return `${number} ${word}${number === 1 ? '' : 's'}`;
}

/** The first of a commit's or a digest's digits. */
export function short(id: string): string {
	return id.replace(/^sha256:/, '').slice(0, 7);
}

/** A word as a POSIX shell reads it back. */
export function quoted(word: string): string {
	if (/^[\w@%+=:,./-]+$/.test(word)) return word;
	return `'${word.replaceAll("'", `'\\''`)}'`;
}

/** The line that does in a terminal what a button does here. */
export function berth(...words: string[]): string {
	return ['berth', ...words.map(quoted)].join(' ');
}
