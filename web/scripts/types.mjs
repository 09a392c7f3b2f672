// Makes src/lib/api/schema.d.ts from the API's reviewed document; with --check it only says whether
// the file is as it would be made.
import { readFile, writeFile } from 'node:fs/promises';
import openapiTS, { astToString } from 'openapi-typescript';

const snapshot = new URL(
	'../../platform/server/tests/api/snapshots/api__document__openapi.snap',
	import.meta.url
);
const file = new URL('../src/lib/api/schema.d.ts', import.meta.url);

const text = await readFile(snapshot, 'utf8');
// Two lines of `---` around what the snapshot says of itself.
const document = JSON.parse(text.split(/^---$/m).slice(2).join('---'));
const made =
	'// Made by `npm run types` from the document of the API. Do not edit.\n\n' +
	astToString(await openapiTS(document));

if (process.argv.includes('--check')) {
	const there = await readFile(file, 'utf8').catch(() => '');
	if (there !== made) {
		console.error('src/lib/api/schema.d.ts is not what the API says: run `npm run types`');
		process.exit(1);
	}
} else {
	await writeFile(file, made);
}
