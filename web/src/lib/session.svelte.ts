// Who is signed in.
import { api, must, onSignedOut, type Schemas } from './api/client';
import { Problem } from './problem';
import { denied, highest, ROLES, type Role, type Verb } from './rights';

class Session {
	/** Nothing before it is known; null where nobody is signed in. */
	who = $state.raw<Schemas['SessionView'] | null | undefined>(undefined);

	constructor() {
		onSignedOut(() => (this.who = null));
	}

	/** Asks the platform. */
	async look() {
		try {
			this.who = await must(api.GET('/v1/session'));
		} catch (error) {
			if (!(error instanceof Problem && error.status === 401)) throw error;
		}
	}

	get highest(): Role | undefined {
		return this.who ? highest(this.who) : undefined;
	}

	/** Roles that may be given away: nobody gives more than they have. */
	get givable(): readonly Role[] {
		return ROLES.slice(0, ROLES.indexOf(this.highest ?? 'viewer') + 1);
	}

	/** Why somebody may not do this in a team, or in any; nothing where they may. */
	denied(verb: Verb, team?: string): string | undefined {
		return this.who ? denied(this.who, verb, team) : 'nobody is signed in';
	}

	async signOut() {
		await must(api.DELETE('/v1/session'));
		this.who = null;
	}
}

export const session = new Session();
