"""PyJWT as a second opinion on tokens.

Prints one line of JSON with keys and tokens that are good, then answers each line on stdin, a token, with `yes` or `no`.
"""

import json
import sys
import time

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

SECRET_ISSUER = "https://secrets.example"
KEY_ISSUER = "https://keys.example"
REQUIRED = ["exp", "iat", "iss", "aud", "sub", "jti"]

secret = b"x" * 64
private = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "PS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}



def jwk(algorithm, key):
    made = json.loads(jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key()))
    made.update(kid="key " + algorithm, alg=algorithm, use="sig")
    made.pop("key_ops", None)
    return made


def claims(issuer, **changed):
    now = int(time.time())
    made = {"iss": issuer, "aud": "fanline", "sub": "alice", "iat": now - 5, "exp": now + 3600, "jti": "1"}
    made.update(fanline={"tier": "pro"}, **changed)
    return made


def good_tokens():
    for algorithm in ["HS256", "HS384", "HS512"]:
        yield jwt.encode(claims(SECRET_ISSUER), secret, algorithm)
    for algorithm, key in private.items():
        yield jwt.encode(claims(KEY_ISSUER), key, algorithm, headers={"kid": "key " + algorithm})
        yield jwt.encode(claims(KEY_ISSUER, aud=["other", "fanline"]), key, algorithm)
        yield jwt.encode(claims(KEY_ISSUER, nbf=1.5), key, algorithm, headers={"typ": "at+jwt"})


def is_good(token):
    try:
        header = jwt.get_unverified_header(token)
        issuer = jwt.decode(token, options={"verify_signature": False})["iss"]
    except Exception:
        return False
    if issuer == SECRET_ISSUER:
        candidates = [(secret, ["HS256", "HS384", "HS512"])]
    else:
        wanted = header.get("kid")
        named = [name for name in private if wanted is None or wanted == "key " + name]
        candidates = [(private[name].public_key(), [name]) for name in named]
    for key, algorithms in candidates:
        try:
            jwt.decode(token, key, algorithms, audience="fanline", issuer=[SECRET_ISSUER, KEY_ISSUER], leeway=30,
                       options={"require": REQUIRED})
            return True
        except Exception:
            pass
    return False


print(json.dumps({
    "secret": secret.decode(),
    "jwks": {"keys": [jwk(algorithm, key) for algorithm, key in private.items()]},
    "tokens": list(good_tokens()),
}), flush=True)
for line in sys.stdin:
    print("yes" if is_good(line.rstrip("\n")) else "no", flush=True)
