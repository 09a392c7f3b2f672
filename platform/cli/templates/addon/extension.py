"""A memcached for an app."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.provider import Process, Spec
from wit_world.imports.types import Error

PORT = 11211
# What memcached needs beside its items.
OVERHEAD_MIB = 64


class Provider(exports.Provider):
    def provision(self, request):
        memory_mib = json.loads(request.options).get("memory-mib", 64)
        memcached = Process(
            name="memcached",
            packages=["memcached"],
            command=["memcached", "-p", str(PORT), "-m", str(memory_mib)],
            volumes=[],
            port=PORT,
            memory_mib=memory_mib + OVERHEAD_MIB,
            extra=[],
        )
        url = "memcached://${host}:" + str(PORT)
        return Spec([memcached], [], [], [("MEMCACHED_URL", url)], [])

    def backup(self, request):
        raise Err(Error("not-supported", "a cache has nothing to back up", False, []))

    def restore(self, request):
        raise Err(Error("not-supported", "a cache has nothing to restore", False, []))
