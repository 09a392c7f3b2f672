// A build's output as steps. The lines are those that `git push` shows: `-----> ` begins a step,
// ` !     ` says what is wrong, `=====> ` says how it ended.

export interface BuildLine {
	number: number;
	line: string;
}

export interface Step {
	/** Number of its first line, by which it is known. */
	number: number;
	title: string;
	/** Whether something is wrong in it. */
	failed: boolean;
	/** Whether it says how all of it ended. */
	last: boolean;
	/** Seconds that its lines speak of, where they do. */
	seconds: number | undefined;
	lines: BuildLine[];
}

const TOOK = /(?:^|\s)(?:\(|in |after )(\d+(?:\.\d+)?) s\)?\s*$/;

/** Adds a line to steps; gives the step that it belongs to. */
export function addLine(steps: Step[], line: BuildLine): Step {
	const heading = /^(-----|=====)> (.*)$/.exec(line.line);
	let step = steps.at(-1);
	if (heading || !step) {
		step = {
			number: line.number,
			title: heading ? (heading[2] ?? '') : 'Output',
			failed: false,
			last: heading?.[1] === '=====',
			seconds: undefined,
			lines: []
		};
		steps.push(step);
	}
	if (!heading) step.lines.push({ ...line, line: line.line.replace(/^ {7}/, '') });
	if (line.line.startsWith(' !')) step.failed = true;
	const took = TOOK.exec(line.line);
	if (took) step.seconds = (heading ? 0 : (step.seconds ?? 0)) + Number(took[1]);
	return step;
}
