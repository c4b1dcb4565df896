"""Compute with the help of a cache server. The server detaches from everything, and nobody tells it to end."""

import os
import socket
import sys

listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
if os.fork() == 0:  # the server: a session of its own, a parent of its own, no descriptors of ours
    os.setsid()
    if os.fork():
        os._exit(0)
    for fd in (0, 1, 2):
        os.close(fd)
    while True:
        client, _ = listener.accept()
        client.sendall(str(sum(range(1000))).encode())
        client.close()
os.wait()
with socket.create_connection(listener.getsockname()) as client:
    print("from the cache:", client.recv(100).decode())
sys.exit(0)
