// Something that is asked of the platform, and why it was not done.
import { told } from './problem';

export class Attempt {
	/** Why the last one was not done. */
	failure = $state<string | undefined>(undefined);

	/** Whether it was done. What failed before is told no more. */
	async run(call: () => Promise<unknown>): Promise<boolean> {
		this.failure = undefined;
		try {
			await call();
			return true;
		} catch (error) {
			this.failure = told(error);
			return false;
		}
	}
}
