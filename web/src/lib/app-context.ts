// The app that the pages below `/apps/NAME` are about.
import { getContext, setContext } from 'svelte';
import type { Schemas } from './api/client';
import type { Resource } from './resource.svelte';
import type { Verb } from './rights';

export interface AppContext {
	readonly name: string;
	readonly app: Resource<Schemas['AppView']>;
	/** Why somebody may not do this to the app; nothing where they may. */
	denied(verb: Verb): string | undefined;
}

const KEY = Symbol('app');

export function provideApp(context: AppContext) {
	setContext(KEY, context);
}

export function theApp(): AppContext {
	return getContext<AppContext>(KEY);
}
