// What people do with the console, from the first link to an app that was deployed, scaled, rolled
// back and looked at from a phone. The tests go on with what those before them left.
import { api, API, control, expect, link, look, Repository, signIn, test, visit } from './world';

const PASSWORD = 'a long enough password';
const SERVER = `
import http.server, os, sys, urllib.parse
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = urllib.parse.unquote(self.path[1:])
        if path.startswith("flood "):
            for number in range(int(path[6:])):
                sys.stdout.write(f"line {number} of a flood\\n")
        elif path:
            print(path)
        sys.stdout.flush()
        body = os.environ.get("GREETING", "none").encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
`;
/** Does something where it is taken for a page's own markup. */
const HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>';

let repository: Repository;
test.beforeAll(async () => {
	const files = { 'requirements.txt': '', 'server.py': SERVER, Procfile: 'web: python3 server.py\n' };
	repository = await Repository.of(files);
});
test.afterAll(() => repository.remove());

test('somebody without a session is asked to sign in', async ({ page, watched }) => {
	watched.expected.push(/status of 422|status of 401/);
	await page.goto('/apps/notes/logs');
	await expect(page.getByRole('heading', { name: 'Sign in to Berth' })).toBeVisible();
	await look(page, 'sign-in');
	await page.getByLabel('User').fill('nobody');
	await page.getByLabel('Password').fill('not the password');
	await page.getByRole('button', { name: 'Sign in', exact: true }).click();
	await expect(page.getByText('the name or the password is not right')).toBeVisible();
	await expect(page.getByLabel('Password')).toHaveValue('');
});

test('a link is good once, leaves no trace, and leads to a password', async ({ page }) => {
	const once = (await link('ann', 'admin')).replace(/^https?:\/\/[^/]+/, API);
	await page.goto(once);
	await expect(page.getByRole('heading', { name: 'Welcome, ann' })).toBeVisible();
	expect(page.url()).not.toContain('#');
	await look(page, 'first-password');
	await page.getByLabel(/^New password, of/).fill(PASSWORD);
	await page.getByLabel('New password again').fill(PASSWORD);
	await page.getByRole('button', { name: 'Keep it' }).click();
	await expect(page.getByRole('heading', { name: 'There is no app yet' })).toBeVisible();
	await look(page, 'apps-none');

	await page.getByRole('link', { name: 'ann' }).click();
	await look(page, 'account');
	await page.getByRole('button', { name: 'Sign out' }).click();
	await expect(page.getByRole('heading', { name: 'Sign in to Berth' })).toBeVisible();
	await page.goto('about:blank');
	await page.goto(once);
	await expect(page.locator('[aria-live=assertive] p')).toBeVisible();
	await page.getByLabel('User').fill('ann');
	await page.getByLabel('Password').fill(PASSWORD);
	await page.getByRole('button', { name: 'Sign in', exact: true }).click();
	await expect(page.getByRole('heading', { name: 'Apps', exact: true })).toBeVisible();
});

test('an app is created, pushed, and seen as it is built and comes to run', async ({ page }) => {
	await signIn(page, 'ann', 'admin');
	await page.getByRole('button', { name: 'New app' }).click();
	await page.getByLabel('Name of the new app').fill('notes');
	await page.getByRole('button', { name: 'Create', exact: true }).click();
	await expect(page.getByRole('heading', { name: 'Nothing was deployed yet' })).toBeVisible();
	await look(page, 'app-new');
	for (const [tab, text] of [
		['Releases', 'There is no release yet'],
		['Config', 'No variable is set'],
		['Volumes', 'There is none'],
		['Terminal', 'No instance runs'],
		['Builds', 'Nothing was built yet']
	] as const) {
		await page.getByRole('link', { name: tab, exact: true }).click();
		await expect(page.getByText(text)).toBeVisible();
	}

	const pushed = repository.push('notes');
	// Nobody loads the page anew.
	await page.getByRole('table').getByRole('link').first().click();
	await expect(page.getByText('Building with python')).toBeVisible();
	await expect(page.getByText('Application deployed: v1').first()).toBeVisible({ timeout: 60_000 });
	await expect(page.getByText('succeeded').first()).toBeVisible();
	expect(await pushed).toContain('Application deployed: v1');
	await look(page, 'build');
	await page.getByRole('link', { name: 'Builds', exact: true }).click();
	await look(page, 'builds');
	await page.getByRole('link', { name: 'Overview' }).click();
	await expect(page.getByRole('cell', { name: 'ready' })).toBeVisible();
	await look(page, 'app');
	await page.getByRole('link', { name: 'Apps', exact: true }).first().click();
	await expect(page.getByRole('cell', { name: 'healthy' })).toBeVisible();
	await look(page, 'apps');
});

test('the log is live, and what it says does nothing', async ({ page }) => {
	await signIn(page, 'ann', 'admin');
	await page.goto('/apps/notes/logs');
	const log = page.getByRole('log');
	await visit('notes', 'the first line');
	await expect(log.getByText('the first line')).toBeVisible();
	await visit('notes', HOSTILE);
	await expect(log.getByText(HOSTILE)).toBeVisible();
	await visit('notes', '\u001b[31mred\u202e');
	await expect(log.getByText('red')).toBeVisible();
	await look(page, 'logs');

	await page.getByRole('button', { name: 'Pause' }).click();
	await visit('notes', 'while it is paused');
	await expect(page.getByText('1 new line to see')).toBeVisible();
	await expect(log.getByText('while it is paused')).toBeHidden();
	await page.getByRole('button', { name: 'Go on' }).click();
	await expect(log.getByText('while it is paused')).toBeVisible();

	await page.getByLabel('Search').fill('FIRST');
	await expect(log.locator('.line')).toHaveCount(1);
	await page.getByLabel('Search').fill('');
	await page.getByLabel('Process').selectOption('web');
	await expect(log.getByText('the first line')).toBeVisible();
});

test('a log of a hundred thousand lines keeps the page small', async ({ page }) => {
	await signIn(page, 'ann', 'admin');
	await page.goto('/apps/notes/logs');
	await expect(page.getByText(/^Live/)).toBeVisible();
	await visit('notes', 'flood 100000');
	const log = page.getByRole('log');
	await expect(log.getByText('line 99999 of a flood')).toBeVisible({ timeout: 60_000 });
	expect(await page.locator('*').count()).toBeLessThan(700);
	await log.evaluate((box) => (box.scrollTop = box.scrollHeight / 2));
	await expect(page.getByRole('button', { name: 'To the newest' })).toBeVisible();
	await expect(log.getByText(/line \d+ of a flood/).first()).toBeVisible();
	expect(await page.locator('*').count()).toBeLessThan(700);
	await page.getByRole('button', { name: 'To the newest' }).click();
	await expect(log.getByText('line 99999 of a flood')).toBeVisible();
});

test('configuration is set, masked, shown and unset, with a release each time', async ({ page }) => {
	await signIn(page, 'ann', 'admin');
	await page.goto('/apps/notes/config');
	await page.getByLabel('Name', { exact: true }).fill('GREETING');
	await page.getByLabel('Value', { exact: true }).fill(HOSTILE);
	await page.getByRole('button', { name: 'Set', exact: true }).click();
	await expect(page.getByText('A new release is being deployed')).toBeVisible();
	await expect(page.getByText('••••••••')).toBeVisible();
	expect(await page.content()).not.toContain('onerror');
	await look(page, 'config');
	await page.getByRole('button', { name: 'Show the value of GREETING' }).click();
	await expect(page.getByText(HOSTILE)).toBeVisible();
	await expect.poll(() => visit('notes', '')).toBe(HOSTILE);

	await page.getByRole('button', { name: 'Unset GREETING' }).click();
	await page.getByRole('button', { name: 'Unset it' }).click();
	await expect(page.getByText('No variable is set')).toBeVisible();
	await expect.poll(() => visit('notes', '')).toBe('none');
});

test('releases are compared, and one is brought back', async ({ page }) => {
	await signIn(page, 'ann', 'admin');
	await page.goto('/apps/notes/releases');
	const row = page.getByRole('row').filter({ has: page.getByRole('rowheader', { name: 'v2' }) });
	await row.getByRole('button', { name: /^Compare/ }).click();
	await expect(page.getByText('config GREETING')).toBeVisible();
	await look(page, 'releases');
	await page.getByRole('button', { name: 'Roll back to v2' }).click();
	await page.getByRole('button', { name: 'Roll back', exact: true }).last().click();
	await expect.poll(() => visit('notes', '')).toBe(HOSTILE);
	await expect(page.getByRole('rowheader', { name: 'v4 runs' })).toBeVisible();
	expect(await page.evaluate(() => 'hacked' in window)).toBe(false);
});

test('an app is scaled, and the map shows it as it happens', async ({ page, context }) => {
	await signIn(page, 'ann', 'admin');
	const map = await context.newPage();
	await map.goto('/apps/notes/map');
	await expect(map.getByRole('link', { name: /^web\.1/ })).toBeVisible();
	await page.bringToFront();
	await page.goto('/apps/notes');
	await page.getByLabel('web', { exact: true }).fill('2');
	await page.getByRole('button', { name: 'Scale', exact: true }).click();
	await expect(page.getByRole('rowheader', { name: 'web.2' })).toBeVisible();
	await expect(page.getByRole('cell', { name: 'ready' })).toHaveCount(2);
	await map.bringToFront();
	await expect(map.getByRole('link', { name: /^web\.2.*ready/ })).toBeVisible();
	await look(map, 'map');

	await api('POST', '/v1/apps/notes/stop');
	await expect(map.getByRole('link', { name: /^web\.1/ })).toBeHidden();
	await expect(map.getByRole('link', { name: 'answered with an error' })).toBeVisible();
	await look(map, 'map-stopped');
	await page.bringToFront();
	await expect(page.getByText('The app is stopped: click Start.')).toBeVisible();
	await page.getByRole('button', { name: 'Start', exact: true }).click();
	await expect(page.getByRole('cell', { name: 'ready' })).toHaveCount(2);
	await page.getByLabel('web', { exact: true }).fill('1');
	await page.getByRole('button', { name: 'Scale', exact: true }).click();
	await expect(page.getByRole('cell', { name: 'ready' })).toHaveCount(1);
});

test('a domain is added and removed', async ({ page }) => {
	await signIn(page, 'ann', 'admin');
	await page.goto('/apps/notes/domains');
	await page.getByLabel('Route a domain to this app').fill('notes.example.com');
	await page.getByRole('button', { name: 'Add', exact: true }).click();
	await expect(page.getByRole('rowheader', { name: 'notes.example.com' })).toBeVisible();
	await look(page, 'domains');
	await page.getByRole('button', { name: 'Remove notes.example.com' }).click();
	await look(page, 'domains-remove');
	await page.getByRole('button', { name: 'Remove it' }).click();
	await expect(page.getByRole('rowheader', { name: 'notes.example.com' })).toBeHidden();
});

test('a wrong domain is refused with the reason', async ({ page, watched }) => {
	watched.expected.push(/status of 4(00|09|22)/);
	await signIn(page, 'ann', 'admin');
	await page.goto('/apps/notes/domains');
	await page.getByLabel('Route a domain to this app').fill('<b>no domain</b>');
	await page.getByRole('button', { name: 'Add', exact: true }).click();
	await expect(page.locator('[aria-live=assertive] p')).toBeVisible();
});

test('a terminal runs in an instance', async ({ page }) => {
	await signIn(page, 'ann', 'admin');
	await page.goto('/apps/notes');
	await page.getByRole('link', { name: 'Terminal in web.1' }).click();
	await page.getByRole('button', { name: 'Open', exact: true }).click();
	await expect(page.getByRole('status').filter({ hasText: 'In web.1' })).toBeVisible();
	await page.keyboard.type('echo it is $((6 * 7))\n');
	await expect(page.locator('.xterm-rows')).toContainText('it is 42');
	await look(page, 'terminal');
	await page.keyboard.type('exit 3\n');
	await expect(page.getByText('The command ended with 3.')).toBeVisible();
});

test('what happened is told, with who did it', async ({ page }) => {
	await signIn(page, 'ann', 'admin');
	await page.goto('/activity');
	await expect(page.getByText(/^create app notes/)).toBeVisible();
	await look(page, 'activity');
	await page.getByLabel('By whom').fill('ann');
	await page.getByLabel('What', { exact: true }).selectOption('app.*');
	await expect(page.getByText(/^create app notes/)).toBeVisible();
	await page.goto('/apps/notes/activity');
	await look(page, 'app-activity');
});

test('names of people are text', async ({ page }) => {
	await api('POST', '/v1/tokens', { name: HOSTILE, role: 'viewer' });
	await signIn(page, 'ann', 'admin');
	await page.goto('/access');
	await expect(page.getByRole('rowheader', { name: HOSTILE })).toBeVisible();
	await look(page, 'access');
	for (const place of ['addons', 'extensions', 'apps/notes/volumes']) {
		await page.goto(`/${place}`);
		await expect(page.getByRole('status').filter({ hasText: 'Reading' })).toHaveCount(0);
		await look(page, place.replaceAll('/', '-'));
	}
});

test('a viewer sees everything and can change nothing', async ({ page, watched }) => {
	watched.expected.push(/status of 403/);
	await signIn(page, 'vic', 'viewer');
	await page.goto('/apps/notes');
	for (const name of ['Restart', 'Stop', 'Scale', 'Destroy the app …']) {
		const button = page.getByRole('button', { name, exact: true });
		await expect(button).toHaveAttribute('aria-disabled', 'true');
		await expect(button).toHaveAccessibleDescription(/viewer/);
	}
	await page.getByRole('button', { name: 'Stop', exact: true }).click({ force: true });
	await look(page, 'app-viewer');
	await page.goto('/apps/notes/releases');
	await expect(page.getByRole('button', { name: 'Roll back to v1' })).toHaveAttribute(
		'aria-disabled',
		'true'
	);
	await page.goto('/apps/notes/config');
	await expect(page.getByRole('button', { name: 'Set', exact: true })).toHaveAttribute(
		'aria-disabled',
		'true'
	);
	await page.goto('/access');
	await expect(page.getByText('is not for you to see').first()).toBeVisible();
	await look(page, 'access-viewer');
	// The buttons are a courtesy; this is the rule.
	const answer = await page.evaluate(async () => {
		const headers = { 'content-type': 'application/json' };
		return (await fetch('/v1/apps/notes/stop', { method: 'POST', headers })).status;
	});
	expect(answer).toBe(403);
});

test('the console goes on by itself when the platform is back', async ({ page, watched }) => {
	watched.expected.push(/Failed to load resource|ERR_/);
	await signIn(page, 'ann', 'admin');
	await page.goto('/apps/notes/logs');
	await visit('notes', 'before it was killed');
	await expect(page.getByRole('log').getByText('before it was killed')).toBeVisible();
	await control('kill');
	await expect(page.getByText('The platform does not answer')).toBeVisible();
	await look(page, 'away');
	await visit('notes', 'while it was away');
	await control('serve');
	await expect(page.getByText('The platform does not answer')).toBeHidden();
	await expect(page.getByRole('log').getByText('while it was away')).toBeVisible();
	await expect(page.getByRole('log').getByText('before it was killed')).toHaveCount(1);
});

test('every page fits a phone, and is there in the dark', async ({ page }) => {
	test.setTimeout(240_000);
	await signIn(page, 'ann', 'admin');
	await page.setViewportSize({ width: 390, height: 780 });
	for (const place of [
		'apps',
		'apps/notes',
		'apps/notes/builds',
		'apps/notes/releases',
		'apps/notes/logs',
		'apps/notes/config',
		'apps/notes/domains',
		'apps/notes/volumes',
		'apps/notes/map',
		'apps/notes/terminal',
		'apps/notes/activity',
		'activity',
		'extensions',
		'addons',
		'access',
		'account'
	]) {
		await page.goto(`/${place}`);
		await expect(page.getByRole('main')).toBeVisible();
		await expect(page.getByRole('status').filter({ hasText: 'Reading' })).toHaveCount(0);
		await look(page, `phone-${place.replaceAll('/', '-')}`);
	}
	await page.getByRole('button', { name: 'Menu' }).click();
	await page.getByLabel('Colours').selectOption('dark');
	await page.getByRole('link', { name: 'Apps', exact: true }).first().click();
	await expect(page.getByRole('rowheader', { name: 'notes' })).toBeVisible();
	await look(page, 'phone-apps-dark');
	await page.setViewportSize({ width: 1280, height: 800 });
	for (const place of ['apps', 'apps/notes', 'apps/notes/logs', 'apps/notes/map', 'access']) {
		await page.goto(`/${place}`);
		await expect(page.getByRole('status').filter({ hasText: 'Reading' })).toHaveCount(0);
		await look(page, `dark-${place.replaceAll('/', '-')}`);
	}
});

test('the keyboard reaches everything that a mouse does', async ({ page }) => {
	await signIn(page, 'ann', 'admin');
	await page.goto('/apps');
	await expect(page.getByRole('rowheader', { name: 'notes' })).toBeVisible();
	await page.keyboard.press('Tab');
	await expect(page.getByRole('link', { name: 'To the content' })).toBeFocused();
	await page.keyboard.press('Enter');
	await page.keyboard.press('Tab');
	await expect(page.getByRole('button', { name: 'New app' })).toBeFocused();
	await page.keyboard.press('Tab');
	await expect(page.getByRole('link', { name: 'notes', exact: true })).toBeFocused();
	await page.keyboard.press('Enter');
	await expect(page).toHaveURL(/\/apps\/notes$/);
});

test('nothing of a page may be put into a frame, and the first load is small', async ({ page }) => {
	let bytes = 0;
	page.on('requestfinished', async (request) => {
		const { responseBodySize } = await request.sizes().catch(() => ({ responseBodySize: 0 }));
		bytes += responseBodySize;
	});
	const answer = await page.goto('/sign-in');
	const headers = answer!.headers();
	expect(headers['content-security-policy']).toContain("default-src 'none'");
	expect(headers['content-security-policy']).toContain("frame-ancestors 'none'");
	expect(headers['content-security-policy']).not.toContain('unsafe');
	expect(headers['x-content-type-options']).toBe('nosniff');
	expect(headers['referrer-policy']).toBe('no-referrer');
	expect(headers['cross-origin-opener-policy']).toBe('same-origin');
	await expect(page.getByLabel('Password')).toBeVisible();
	expect(bytes).toBeGreaterThan(10_000);
	expect(bytes).toBeLessThan(150_000);
});

test('an app that is gone is gone, and so is its page', async ({ page, watched }) => {
	watched.expected.push(/status of 404/);
	await signIn(page, 'ann', 'admin');
	await page.goto('/apps/notes');
	await page.getByRole('button', { name: 'Destroy the app …' }).click();
	const button = page.getByRole('button', { name: 'Destroy it' });
	await expect(button).toHaveAttribute('aria-disabled', 'true');
	await page.getByLabel('Type notes to confirm').fill('notes');
	await look(page, 'app-destroy');
	await button.click();
	await expect(page.getByRole('heading', { name: 'There is no app yet' })).toBeVisible();
	await page.goto('/apps/notes');
	await expect(page.getByRole('heading', { name: 'There is no app notes' })).toBeVisible();
	await page.goto('/nothing/here');
	await expect(page.getByRole('heading', { name: 'There is no such page' })).toBeVisible();
});

test('a list of a thousand apps keeps the page small', async ({ page }) => {
	test.setTimeout(300_000);
	const names = Array.from({ length: 1_000 }, (_, at) => `app-${String(at).padStart(4, '0')}`);
	const workers = Array.from({ length: 8 }, async () => {
		for (let name = names.pop(); name; name = names.pop()) await api('POST', '/v1/apps', { name });
	});
	await Promise.all(workers);
	await signIn(page, 'ann', 'admin');
	await page.goto('/apps');
	await expect(page.getByText('1000 apps')).toBeVisible();
	expect(await page.locator('*').count()).toBeLessThan(1_500);
	await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
	await expect(page.getByRole('link', { name: 'app-0999' })).toBeVisible();
	expect(await page.locator('*').count()).toBeLessThan(1_500);
	await page.evaluate(() => scrollTo(0, 0));
	await page.getByLabel('Find an app by its name').fill('0500');
	await expect(page.getByText('1 app found')).toBeVisible();
	await expect(page.getByRole('link', { name: 'app-0500' })).toBeVisible();
});
