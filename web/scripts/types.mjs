// Makes api/schema.d.ts, the types of the client, from the API's reviewed document.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import openapiTS, { astToString } from 'openapi-typescript';

const snapshot = new URL(
	'../../platform/server/tests/api/snapshots/api__document__openapi.snap',
	import.meta.url
);
const folder = new URL('../api/', import.meta.url);

const text = await readFile(snapshot, 'utf8');
// Two lines of `---` around what the snapshot says of itself.
const document = JSON.parse(text.split(/^---$/m).slice(2).join('---'));
await mkdir(folder, { recursive: true });
await writeFile(new URL('schema.d.ts', folder), astToString(await openapiTS(document)));
