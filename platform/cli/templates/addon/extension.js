// A memcached for an app.
const PORT = 11211;
// What memcached needs beside its items.
const OVERHEAD_MIB = 64;

export const provider = {
  provision(request) {
    const memoryMib = JSON.parse(request.options)['memory-mib'] ?? 64;
    return {
      processes: [
        {
          name: 'memcached',
          packages: ['memcached'],
          command: ['memcached', '-p', `${PORT}`, '-m', `${memoryMib}`],
          volumes: [],
          port: PORT,
          memoryMib: memoryMib + OVERHEAD_MIB,
          extra: [],
        },
      ],
      environment: [],
      secrets: [],
      exports: [['MEMCACHED_URL', 'memcached://${host}:' + PORT]],
      extra: [],
    };
  },
  backup() {
    throw refusal('a cache has nothing to back up');
  },
  restore() {
    throw refusal('a cache has nothing to restore');
  },
};

function refusal(message) {
  return { code: 'not-supported', message, retry: false, extra: [] };
}
