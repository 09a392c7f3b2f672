import { defineConfig } from '@playwright/test';

// `tests/tests/console.rs` starts the platform and says in the environment where it is.
const artifacts = process.env.BERTH_ARTIFACTS ?? 'test-results';

export default defineConfig({
	testDir: 'e2e',
	outputDir: `${artifacts}/failed`,
	// One platform, whose apps the tests go on with.
	workers: 1,
	fullyParallel: false,
	retries: 0,
	timeout: 180_000,
	expect: { timeout: 30_000 },
	forbidOnly: true,
	reporter: [['list']],
	use: {
		baseURL: process.env.BERTH_API,
		viewport: { width: 1280, height: 800 },
		colorScheme: 'light',
		actionTimeout: 30_000,
		trace: 'retain-on-failure',
		launchOptions: {
			executablePath: '/usr/bin/chromium',
			args: [
				'--no-sandbox',
				'--disable-gpu',
				'--disable-quic',
				'--no-first-run',
				'--disable-background-networking',
				'--disable-component-update',
				'--disable-sync'
			]
		}
	}
});
