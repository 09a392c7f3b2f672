import { expect, test } from 'vitest';
import { draw, type There } from './map';

const there: There = {
	app: {
		id: 'app_1',
		name: 'shop',
		team: 'default',
		urls: [],
		git_http: '',
		git_ssh: '',
		release: 2,
		deploy_branch: 'main',
		scale: { web: 2 },
		stopped: false,
		generation: 1,
		created_at: ''
	},
	builds: [
		{ id: 'bld_2', commit: 'bbbbbbbbbb', state: 'failed', created_at: '' },
		{ id: 'bld_1', commit: 'aaaaaaaaaa', state: 'succeeded', image: 'sha256:1', created_at: '' }
	],
	releases: [
		{
			id: 'rel_2',
			number: 2,
			current: true,
			image: 'sha256:1',
			config_version: 0,
			commit: 'aaaaaaaaaa',
			reason: '',
			actor: '',
			manifest: {},
			created_at: ''
		}
	],
	instances: ['ready', 'starting'].map((state, at) => ({
		id: `ins_${at}`,
		name: `web.${at + 1}`,
		process: 'web',
		role: 'instance',
		state,
		release: 2,
		attempt: 1,
		created_at: ''
	})),
	domains: [{ domain: 'shop.localhost', default: true }]
};

test('what runs leads from git to its routes, and what does not run is seen too', () => {
	const map = draw(there);
	expect(map.leads('git')).toEqual(['bbbbbbb', 'aaaaaaa']);
	expect(map.leads('bld_1')).toEqual(['v2']);
	expect(map.leads('release-2')).toEqual(['web.1', 'web.2']);
	expect(map.leads('ins_0')).toEqual(['shop.localhost']);
	expect(map.leads('ins_1')).toEqual([]);
	expect(map.boxes.find((box) => box.id === 'bld_2')?.kind).toBe('bad');
});

test('no two boxes lie on each other', () => {
	const { boxes, height } = draw(there);
	for (const a of boxes)
		for (const b of boxes)
			if (a !== b) expect(a.x !== b.x || Math.abs(a.y - b.y) >= a.height).toBe(true);
	expect(Math.max(...boxes.map((box) => box.y + box.height))).toBeLessThanOrEqual(height);
});

test('an app without instances answers nobody', () => {
	const map = draw({ ...there, instances: [] });
	expect(map.boxes.find((box) => box.column === 'Routes')?.kind).toBe('bad');
});
