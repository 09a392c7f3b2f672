import { expect, test } from 'vitest';
import { denied, highest, type Rights } from './rights';

const rights: Rights = {
	admin: false,
	teams: [
		{ team: 'shop', role: 'developer', may: ['read', 'deploy', 'change'] },
		{ team: 'blog', role: 'viewer', may: ['read'] }
	],
	platform: ['read']
};

test('what a role allows in one team, it does not in another', () => {
	expect(denied(rights, 'deploy', 'shop')).toBeUndefined();
	expect(denied(rights, 'deploy', 'blog')).toBe(
		'your role in the team blog is viewer, which does not allow it'
	);
	expect(denied(rights, 'deploy', 'bank')).toBe('you have no role in the team bank');
	expect(denied(rights, 'deploy')).toBeUndefined();
	expect(denied(rights, 'manage_access')).toContain('developer, viewer');
});

test('the platform is for administrators', () => {
	expect(denied(rights, 'manage_platform')).toContain('administrators');
	const admin = { admin: true, teams: [], platform: ['read', 'manage_platform'] };
	expect(denied(admin, 'manage_platform')).toBeUndefined();
	expect(denied(admin, 'change', 'any')).toBeUndefined();
});

test('the highest role is found', () => {
	expect(highest(rights)).toBe('developer');
	expect(highest({ ...rights, teams: [] })).toBeUndefined();
});
