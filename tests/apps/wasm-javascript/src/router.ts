// From a method and a path to what answers.
type Answer<Env> = (request: Request, env: Env) => Response | Promise<Response>;

export function router<Env>() {
  const answers = new Map<string, Answer<Env>>();
  return {
    on(method: string, path: string, answer: Answer<Env>) {
      answers.set(`${method} ${path}`, answer);
    },
    fetch(request: Request, env: Env) {
      const { pathname } = new URL(request.url);
      const answer = answers.get(`${request.method} ${pathname}`);
      return answer?.(request, env) ?? new Response("there is nothing here\n", { status: 404 });
    },
  };
}
