"""The generator's only source of chance: xoshiro256** seeded by SplitMix64, and unbiased draws from it.

Both algorithms are Blackman and Vigna's public-domain ones (prng.di.unimi.it). Only integers are used, so that one seed
gives the same draws on every platform and Python version.
"""

import hashlib

MASK = (1 << 64) - 1


def hash64(*parts):
    """First eight bytes, big-endian, of the SHA-256 of the parts joined by '/': a stable place for every (seed, id)."""
    return int.from_bytes(hashlib.sha256("/".join(str(p) for p in parts).encode()).digest()[:8], "big")


def _rotate_left(x, k):
    return ((x << k) | (x >> (64 - k))) & MASK


class Rng:
    """One stream of numbers. Streams of different labels are independent of each other's length."""

    def __init__(self, *label):
        x = hash64(*label)
        self.state = []
        for _ in range(4):  # SplitMix64
            x = (x + 0x9E3779B97F4A7C15) & MASK
            z = x
            z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
            self.state.append(z ^ (z >> 31))

    def next(self):
        """The next 64-bit number of xoshiro256**."""
        s = self.state
        result = (_rotate_left((s[1] * 5) & MASK, 7) * 9) & MASK
        t = (s[1] << 17) & MASK
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = _rotate_left(s[3], 45)
        return result

    def below(self, n):
        """A number in [0, n), every one equally likely: draws beyond the last whole multiple of n are thrown away."""
        limit = ((1 << 64) // n) * n
        while True:
            x = self.next()
            if x < limit:
                return x % n

    def choice(self, items):
        return items[self.below(len(items))]

    def chance(self, per_mille):
        return self.below(1000) < per_mille

    def weighted(self, pairs):
        """One item of [(weight, item), ...] with integer weights."""
        x = self.below(sum(w for w, _ in pairs))
        for w, item in pairs:
            if x < w:
                return item
            x -= w
        raise AssertionError("unreachable")

    def shuffled(self, items):
        """Fisher-Yates on a copy."""
        items = list(items)
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]
        return items


class Deck:
    """Deals items in shuffled rounds: after any number of draws the counts of two items differ by at most one."""

    def __init__(self, rng, items):
        self.rng, self.items, self.left = rng, list(items), []

    def draw(self):
        if not self.left:
            self.left = self.rng.shuffled(self.items)
        return self.left.pop()
