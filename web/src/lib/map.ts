// An app from git to its requests, in columns: which boxes there are, where they stand and what
// leads to what. The order of the columns is that of the flow, so that nothing has to be searched.
import type { Schemas } from './api/client';
import { short } from './words';

export interface There {
	app: Schemas['AppView'];
	builds: Schemas['BuildView'][];
	releases: Schemas['ReleaseView'][];
	instances: Schemas['InstanceView'][];
	domains: Schemas['DomainView'][];
}

export interface Box {
	id: string;
	column: string;
	name: string;
	state: string;
	kind: 'good' | 'busy' | 'bad' | 'still';
	href: string;
	x: number;
	y: number;
	width: number;
	height: number;
}

export interface Link {
	id: string;
	from: string;
	to: string;
	kind: 'good' | 'busy' | 'still';
	path: string;
}

export interface Map {
	width: number;
	height: number;
	columns: { name: string; x: number }[];
	boxes: Box[];
	links: Link[];
	/** Names of what a box leads to. */
	leads(id: string): string[];
}

const [WIDTH, HEIGHT, GAP_X, GAP_Y, TOP] = [160, 48, 44, 14, 40];
const COLUMNS = ['Git', 'Build', 'Release', 'Instances', 'Routes'];
/** Longest name in a box, characters. */
const NAME_MAX = 20;

type Bare = Omit<Box, 'x' | 'y' | 'width' | 'height'>;

export function draw(there: There): Map {
	const bare: Bare[] = [];
	const pairs: { from: string; to: string; kind: Link['kind'] }[] = [];
	const base = `/apps/${there.app.name}`;
	const link = (from: string, to: string, kind: Link['kind']) => pairs.push({ from, to, kind });

	bare.push({
		id: 'git',
		column: 'Git',
		name: there.app.deploy_branch ?? 'no branch yet',
		state: there.app.deploy_branch ? 'deploys what is pushed' : 'waits for a push',
		kind: there.app.deploy_branch ? 'good' : 'still',
		href: base
	});

	const running = new Set(there.instances.map((one) => one.release));
	const releases = there.releases.filter((one) => one.current || running.has(one.number));
	const newest = there.builds[0];
	const builds = there.builds.filter(
		(one) => one === newest || releases.some((release) => release.image === one.image)
	);
	for (const build of builds) {
		const kind =
			build.state === 'running' ? 'busy' : build.state === 'succeeded' ? 'good' : 'bad';
		bare.push({
			id: build.id,
			column: 'Build',
			name: short(build.commit),
			state: build.state,
			kind,
			href: `${base}/builds/${build.id}`
		});
		link('git', build.id, kind === 'bad' ? 'still' : kind);
	}
	for (const release of releases) {
		const id = `release-${release.number}`;
		bare.push({
			id,
			column: 'Release',
			name: `v${release.number}`,
			state: release.current ? 'current' : 'on its way, or leaving',
			kind: release.current ? 'good' : 'busy',
			href: `${base}/releases`
		});
		const build = builds.find((one) => one.image === release.image);
		link(build?.id ?? 'git', id, release.current ? 'good' : 'busy');
	}
	for (const instance of there.instances) {
		const ready = instance.state === 'ready';
		bare.push({
			id: instance.id,
			column: 'Instances',
			name: instance.name,
			state: `${instance.state}, v${instance.release}`,
			kind: ready ? 'good' : instance.state === 'failed' ? 'bad' : 'busy',
			href: base
		});
		link(`release-${instance.release}`, instance.id, ready ? 'good' : 'busy');
	}
	for (const domain of there.domains) {
		const id = `domain-${domain.domain}`;
		const targets = there.instances.filter((one) => one.process === 'web' && one.state === 'ready');
		bare.push({
			id,
			column: 'Routes',
			name: domain.domain,
			state: targets.length > 0 ? `to ${targets.length} of web` : 'answered with an error',
			kind: targets.length > 0 ? 'good' : there.app.release ? 'bad' : 'still',
			href: `${base}/domains`
		});
		for (const target of targets) link(target.id, id, 'good');
	}
	return place(bare, pairs);
}

function place(bare: Bare[], pairs: { from: string; to: string; kind: Link['kind'] }[]): Map {
	const of = (column: string) => bare.filter((box) => box.column === column);
	const rows = Math.max(1, ...COLUMNS.map((column) => of(column).length));
	const inner = rows * (HEIGHT + GAP_Y) - GAP_Y;
	const boxes: Box[] = [];
	COLUMNS.forEach((column, at) => {
		const own = of(column);
		const offset = (inner - (own.length * (HEIGHT + GAP_Y) - GAP_Y)) / 2;
		own.forEach((box, row) => {
			const name = box.name.length > NAME_MAX ? `${box.name.slice(0, NAME_MAX - 1)}…` : box.name;
			const [x, y] = [at * (WIDTH + GAP_X), TOP + offset + row * (HEIGHT + GAP_Y)];
			boxes.push({ ...box, name, x, y, width: WIDTH, height: HEIGHT });
		});
	});
	const find = (id: string) => boxes.find((box) => box.id === id);
	const links = pairs.flatMap(({ from, to, kind }): Link[] => {
		const [a, b] = [find(from), find(to)];
		if (!a || !b) return [];
		const [x1, y1] = [a.x + a.width, a.y + a.height / 2];
		const [x2, y2] = [b.x, b.y + b.height / 2];
		const middle = (x1 + x2) / 2;
		const path = `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`;
		return [{ id: `${from} ${to}`, from, to, kind, path }];
	});
	return {
		width: COLUMNS.length * (WIDTH + GAP_X) - GAP_X + 2,
		height: TOP + inner + 12,
		columns: COLUMNS.map((name, at) => ({ name, x: at * (WIDTH + GAP_X) })),
		boxes,
		links,
		leads: (id) =>
			links.filter((one) => one.from === id).flatMap((one) => find(one.to)?.name ?? [])
	};
}
