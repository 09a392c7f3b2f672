// Who is signed in and what they may do, as the platform says it: to say beforehand why a button
// does nothing. The API decides.

export const ROLES = ['viewer', 'developer', 'operator', 'admin'] as const;
export type Role = (typeof ROLES)[number];

export type Verb =
	| 'read'
	| 'read_config'
	| 'deploy'
	| 'change'
	| 'run'
	| 'create_app'
	| 'destroy_app'
	| 'manage_access'
	| 'manage_drains'
	| 'manage_platform';

/** What the platform says of a session, as far as rights go. */
export interface Rights {
	admin: boolean;
	teams: { team: string; role: string; may: string[] }[];
	/** What may be done with the platform itself. */
	platform: string[];
}

/** Why it may not be done in a team, or in any of one's own; nothing where it may. */
export function denied(rights: Rights, verb: Verb, team?: string): string | undefined {
	if (rights.platform.includes(verb) && verb === 'manage_platform') return undefined;
	if (verb === 'manage_platform') return 'this is for administrators of the platform';
	const held = rights.teams.filter((one) => team === undefined || one.team === team);
	if (held.some((one) => one.may.includes(verb))) return undefined;
	// An administrator acts in every team, of which a session names only so many.
	if (rights.admin && held.length === 0) return undefined;
	if (held.length === 0) return team ? `you have no role in the team ${team}` : 'you have no role';
	const roles = held.map((one) => one.role).join(', ');
	return `your role${team ? ` in the team ${team}` : ''} is ${roles}, which does not allow it`;
}

/** The highest role in any team. */
export function highest(rights: Rights): Role | undefined {
	return [...ROLES].reverse().find((role) => rights.teams.some((one) => one.role === role));
}
