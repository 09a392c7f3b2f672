// The platform under test and what people do beside the console: push, run the CLI, ask the API.
import { execFile, spawn } from 'node:child_process';
import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import AxeBuilder from '@axe-core/playwright';
import { expect, test as base, type Page } from '@playwright/test';

function given(name: string): string {
	const value = process.env[name];
	if (!value) throw new Error(`${name} is not set: run this by \`cargo xtask test console\``);
	return value;
}
export const API = given('BERTH_API');
export const ROUTER_PORT = given('BERTH_ROUTER_PORT');
const TOKEN = given('BERTH_TOKEN');
const SHOTS = join(given('BERTH_ARTIFACTS'), 'console-screenshots');

/** Something only the test that started the platform can do: `kill`, `serve`. */
export function control(what: 'kill' | 'serve'): Promise<void> {
	return new Promise((done, failed) => {
		const socket = connect(Number(given('BERTH_CONTROL')), '127.0.0.1');
		socket.on('error', failed);
		socket.on('data', (data) => (String(data) === 'ok\n' ? done() : failed(String(data))));
		socket.write(`${what}\n`);
	});
}

export async function api<T = unknown>(method: string, path: string, body?: unknown): Promise<T> {
	const answer = await fetch(API + path, {
		method,
		headers: {
			authorization: `Bearer ${TOKEN}`,
			...(body === undefined ? {} : { 'content-type': 'application/json' })
		},
		body: body === undefined ? undefined : JSON.stringify(body)
	});
	const text = await answer.text();
	if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
	return (text ? JSON.parse(text) : undefined) as T;
}

/** A link that signs somebody in, who is made with this role where it is the first one. */
export async function link(user: string, role: string): Promise<string> {
	const users = await api<{ items: { name: string }[] }>('GET', '/v1/users');
	if (users.items.some((one) => one.name === user))
		return (await api<{ url: string }>('POST', `/v1/users/${user}/link`)).url;
	const made = await api<{ link: { url: string } }>('POST', '/v1/users', { name: user, role });
	return made.link.url;
}

/** Opens a link, as somebody does who got it. */
export async function signIn(page: Page, user: string, role: string) {
	await page.goto((await link(user, role)).replace(/^https?:\/\/[^/]+/, API));
	await expect(page.getByRole('navigation', { name: 'Main' })).toBeVisible();
	// A link leads to a password first.
	await page.goto('/apps');
}

/** A person's git repository. */
export class Repository {
	private constructor(readonly folder: string) {}

	static async of(files: Record<string, string>): Promise<Repository> {
		const made = new Repository(await mkdtemp(join(tmpdir(), 'berth-console-')));
		await made.git('init', '--quiet', '--initial-branch=main');
		await made.commit(files, 'The first');
		return made;
	}

	async commit(files: Record<string, string>, message: string) {
		for (const [name, text] of Object.entries(files))
			await writeFile(join(this.folder, name), text);
		await this.git('add', '--all');
		await this.git('commit', '--quiet', '--allow-empty', '-m', message);
	}

	/** Gives what git said; a push that fails is no error here. */
	push(app: string): Promise<string> {
		const helper = '!f() { echo username=berth; echo "password=$BERTH_TOKEN"; }; f';
		const words = ['-c', 'credential.helper=', '-c', `credential.helper=${helper}`];
		return this.git(...words, 'push', `${API}/git/${app}.git`, 'HEAD:main');
	}

	git(...words: string[]): Promise<string> {
		const who = ['-c', 'user.name=Tester', '-c', 'user.email=tester@localhost'];
		return new Promise((done) => {
			const child = spawn('git', [...who, ...words], {
				cwd: this.folder,
				env: {
					...process.env,
					BERTH_TOKEN: TOKEN,
					GIT_CONFIG_GLOBAL: '/dev/null',
					GIT_CONFIG_NOSYSTEM: '1',
					GIT_TERMINAL_PROMPT: '0'
				}
			});
			let said = '';
			child.stdout.on('data', (data) => (said += data));
			child.stderr.on('data', (data) => (said += data));
			child.on('close', () => done(said));
		});
	}

	remove() {
		return rm(this.folder, { recursive: true, force: true });
	}
}

/** A line of an app's log, by way of a request to it: `url` has what it writes. */
export function visit(app: string, path: string): Promise<string> {
	// curl, because Node resolves no *.localhost.
	const url = `http://127.0.0.1:${ROUTER_PORT}/${encodeURIComponent(path)}`;
	return new Promise((done, failed) =>
		execFile('curl', ['-sS', '-H', `Host: ${app}.localhost`, url], (error, out) =>
			error ? failed(error) : done(out)
		)
	);
}

/** What is told on a console of a browser and is not ours to mend. */
const NOT_OURS = /Failed to load resource: the server responded with a status of 401/;

interface Watched {
	/** Errors of the page that a test expects. */
	expected: RegExp[];
}

/** Every test fails when its page has an error, asks anybody but the platform, or was scripted. */
export const test = base.extend<{ watched: Watched }>({
	watched: [
		async ({ page }, use) => {
			const watched: Watched = { expected: [NOT_OURS] };
			const wrong: string[] = [];
			page.on('console', (message) => {
				if (message.type() === 'error') wrong.push(message.text());
			});
			page.on('pageerror', (error) => wrong.push(String(error)));
			page.on('dialog', (dialog) => {
				wrong.push(`a dialog: ${dialog.message()}`);
				void dialog.dismiss();
			});
			page.on('request', (request) => {
				if (!request.url().startsWith(API)) wrong.push(`a request to ${request.url()}`);
			});
			await use(watched);
			const rest = wrong.filter((text) => !watched.expected.some((one) => one.test(text)));
			expect(rest).toEqual([]);
			expect(await page.evaluate(() => 'hacked' in window)).toBe(false);
		},
		{ auto: true }
	]
});

/** Looks at a page as it is now: nothing that axe finds, nothing that is wider than the screen, and
 * a picture for people. */
export async function look(page: Page, name: string) {
	const { violations } = await new AxeBuilder({ page }).analyze();
	expect(
		violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)]),
		name
	).toEqual([]);
	const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
	expect(wider, `${name} is wider than the screen`).toBeLessThanOrEqual(0);
	await mkdir(SHOTS, { recursive: true });
	await page.screenshot({ path: join(SHOTS, `${name}.png`), fullPage: true });
}

export { expect };
