import { sveltekit } from '@sveltejs/kit/vite';
import { defineConfig } from 'vitest/config';

// SvelteKit's root announces where one is with an inline style, which our policy refuses. The class
// does the same.
/** @type {import('vite').Plugin} */
const announcer = {
	name: 'announcer-without-inline-style',
	enforce: 'pre',
	transform(code, id) {
		if (!id.endsWith('generated/root.svelte')) return;
		const styled = /(id="svelte-announcer"[^>]*?)\sstyle="[^"]*"/;
		if (!styled.test(code)) throw new Error('the announcer of SvelteKit has another form now');
		return code.replace(styled, '$1 class="visually-hidden"');
	}
};

// For development alone: a platform elsewhere, and a token of it that the product never has.
const server = process.env.BERTH_SERVER ?? 'http://127.0.0.1:8081';
const token = process.env.BERTH_TOKEN;
const proxied = {
	target: server,
	ws: true,
	changeOrigin: true,
	headers: token ? { authorization: `Bearer ${token}` } : undefined
};
const proxy = { '/v1': proxied, '/healthz': proxied };

export default defineConfig({
	plugins: [announcer, sveltekit()],
	server: { proxy },
	preview: { proxy },
	build: { target: 'es2022', chunkSizeWarningLimit: 700 },
	test: { include: ['src/**/*.test.ts'] }
});
