"""The job's own certificate, as OpenSSL reads it."""

from __future__ import annotations

import socket
import ssl
import threading

import pytest

from graphflow.distribute.fast.certificates import contexts, make


def handshake(client_end, server_end):
    """Bytes that get through, or the client's error."""
    near, far = socket.socketpair()
    errors = []

    def serve():
        try:
            with server_end.wrap_socket(far, server_side=True) as server:
                server.sendall(b"hello")
        except (ssl.SSLError, ConnectionError) as error:
            errors.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client_end.wrap_socket(near) as client:
            got = client.recv(5)
            return got, client.version(), client.getpeercert()
    finally:
        near.close()
        thread.join()
        far.close()


def test_those_who_have_it_trust_each_other():
    got, version, shown = handshake(*contexts(*make("graphflow-job")))
    assert (got, version) == (b"hello", "TLSv1.3")
    assert shown["subject"] == shown["issuer"] == ((("commonName", "graphflow-job"),),)


def test_another_jobs_is_refused_on_both_sides():
    ours, theirs = contexts(*make("a")), contexts(*make("a"))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(ours[0], theirs[1])
    unsigned = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unsigned.check_hostname = False
    unsigned.verify_mode = ssl.CERT_NONE
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(unsigned, ours[1])
