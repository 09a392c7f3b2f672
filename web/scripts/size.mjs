// Fails when what a browser loads before it can show a page is larger than it may be: the page, what
// it begins with, the layouts, and the page that is shown.
import { readFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';

const FIRST_LOAD_BYTES_MAX = 150_000;
/** Each of these would be somebody's first page. */
const FIRST_PAGES = ['(console)/apps/', 'sign-in/', '(console)/apps/[app]/'];
const LAYOUTS = ['', '(console)/', '(console)/apps/[app]/'];

const site = new URL('../dist/site/', import.meta.url);
const client = new URL('../.svelte-kit/output/client/.vite/manifest.json', import.meta.url);
const nodes = new URL('../.svelte-kit/generated/client-optimized/nodes/', import.meta.url);
const manifest = JSON.parse(await readFile(client, 'utf8'));

/** Files of an entry and of what it imports, without what it loads later. */
function files(key, found) {
	const entry = manifest[key];
	if (!entry) throw new Error(`${key} is not in the manifest`);
	if (found.has(entry.file)) return;
	found.add(entry.file);
	for (const css of entry.css ?? []) found.add(css);
	for (const one of entry.imports ?? []) files(one, found);
}

/** The framework's node that draws a file below `src/routes`. */
async function node(route) {
	for (const key of Object.keys(manifest)) {
		const number = /generated\/client-optimized\/nodes\/(\d+)\.js$/.exec(key)?.[1];
		if (number === undefined) continue;
		const text = await readFile(new URL(`${number}.js`, nodes), 'utf8');
		if (text.includes(`/src/routes/${route}"`)) return key;
	}
	throw new Error(`no node draws ${route}`);
}

const start = Object.keys(manifest).filter((key) =>
	/client\/entry\.js$|client-optimized\/app\.js$/.test(key)
);
if (start.length !== 2) throw new Error(`the entries are not known any more: ${start}`);
for (const page of FIRST_PAGES) {
	const found = new Set();
	for (const key of start) files(key, found);
	for (const layout of LAYOUTS.filter((one) => page.startsWith(one)))
		files(await node(`${layout}+layout.svelte`), found);
	files(await node(`${page}+page.svelte`), found);
	let bytes = gzipSync(await readFile(new URL('index.html', site))).length;
	for (const file of found) bytes += gzipSync(await readFile(new URL(file, site))).length;
	const text = `/${page}: ${found.size} files, ${(bytes / 1000).toFixed(1)} kB gzip`;
	if (bytes > FIRST_LOAD_BYTES_MAX) {
		console.error(`${text}, which is more than ${FIRST_LOAD_BYTES_MAX / 1000} kB`);
		process.exitCode = 1;
	} else console.log(text);
}
