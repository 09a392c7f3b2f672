import os
import socket

print("uid", os.getuid(), os.getgid())
for line in open("/proc/self/status"):
    name, _, value = line.partition(":")
    if name in ("CapEff", "NoNewPrivs", "Seccomp"):
        print(name, value.strip())
print("interfaces", " ".join(name for _, name in socket.if_nameindex()))
try:
    socket.create_connection(("203.0.113.1", 80), timeout=5)
    print("direct reached")
except OSError:
    print("direct refused")


def through_proxy(target):
    with socket.create_connection(("127.0.0.1", 3128), timeout=5) as connection:
        connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return connection.recv(100).split()[1].decode()


print("metadata", through_proxy("169.254.169.254:80"))
print("host", through_proxy("127.0.0.1:22"))
print("no network in this step:", through_proxy("packages.example:443"))
try:
    open("/usr/evil", "w")
    print("write /usr possible")
except OSError:
    print("write /usr refused")
print("agent socket", "there" if os.path.exists("/run/berth") else "absent")
print("HOME", os.environ["HOME"])
print("CI", os.environ["CI"])
print("epoch", os.environ["SOURCE_DATE_EPOCH"])
