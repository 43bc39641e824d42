"""The filter of system calls, run here by a small interpreter: what it says for each architecture, on any machine."""

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfcorrect.rewards.sandbox.seccomp import (
    _FOR_WRITING,
    _FREE,
    _RESTRICTED,
    _WITHOUT_FLAGS,
    ARCHITECTURES,
    Architecture,
    Instruction,
    filter_program,
)

ALLOWED, REFUSED, ABSENT, KILLED = 0x7FFF0000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS, 0x80000000
OPEN_FLAGS = {"O_WRONLY": 0o1, "O_RDWR": 0o2, "O_CREAT": 0o100, "O_TRUNC": 0o1000, "O_CLOEXEC": 0o2000000}


def outcome(program: list[Instruction], audit: int, number: int, *arguments: int) -> int:
    """What the kernel would do: the six instructions the filter is made of, on one `struct seccomp_data`."""
    padded = [argument % 2**64 for argument in (*arguments, 0, 0, 0, 0, 0, 0)][:6]
    data = struct.pack("<IIQ6Q", number % 2**32, audit, 0, *padded)
    accumulator, at = 0, 0
    while True:
        code, if_true, if_false, k = program[at]
        at += 1
        if code == 0x06:
            return k
        if code == 0x20:
            accumulator = struct.unpack_from("<I", data, k)[0]
        elif code == 0x05:
            at += k
        else:
            holds = {0x15: accumulator == k, 0x35: accumulator >= k, 0x45: bool(accumulator & k)}[code]
            at += if_true if holds else if_false


@pytest.fixture(params=sorted(ARCHITECTURES))
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return ARCHITECTURES[request.param]


def ask(architecture: Architecture, name: str, *arguments: int) -> int:
    return outcome(filter_program(architecture), architecture.audit, architecture.numbers[name], *arguments)


@given(number=st.integers(0, 2**32 - 1), arguments=st.lists(st.integers(0, 2**64 - 1), max_size=6))
def test_a_number_that_is_not_listed_is_refused_whatever_its_arguments(number: int, arguments: list[int]) -> None:
    for architecture in ARCHITECTURES.values():
        if number not in architecture.numbers.values():
            assert outcome(filter_program(architecture), architecture.audit, number, *arguments) == REFUSED


@pytest.mark.parametrize("writing", [False, True])
@pytest.mark.parametrize("threads", [False, True])
def test_the_search_finds_for_every_number_what_the_lists_say(
    architecture: Architecture, threads: bool, writing: bool
) -> None:
    program = filter_program(architecture, threads=threads, writing=writing)
    names = {number: name for name, number in architecture.numbers.items()}
    free = {*_FREE.split(), *(_FOR_WRITING.split() if writing else [])}
    by_arguments = {*_RESTRICTED, *([] if writing else _WITHOUT_FLAGS), *(["clone"] if threads else [])}
    for number in [*range(1000), 0x40000000, 2**31, 2**32 - 1]:
        name = names.get(number, "")
        if name in by_arguments:
            argument = 0 if name == "clone" else 2**64 - 1
            assert outcome(program, architecture.audit, number, *[argument] * 6) == REFUSED
        elif name == "clone3":
            assert outcome(program, architecture.audit, number) == ABSENT
        else:
            assert outcome(program, architecture.audit, number) == (ALLOWED if name in free else REFUSED)
    assert all(0 <= jump < 256 for _, *jumps, _ in program for jump in jumps)


def test_another_calling_convention_is_the_end(architecture: Architecture) -> None:
    program = filter_program(architecture)
    for audit in (0x40000003, 0xC000003E, 0xC00000B7, 0):  # i386, x86_64, aarch64, nonsense
        if audit != architecture.audit:
            assert outcome(program, audit, architecture.numbers["read"]) == KILLED


def test_the_32_bit_numbers_of_x86_64_are_refused() -> None:
    x86 = ARCHITECTURES["x86_64"]
    program = filter_program(x86)
    assert {outcome(program, x86.audit, 0x40000000 | number) for number in range(600)} == {REFUSED}


def test_reading_is_allowed_and_processes_are_not(architecture: Architecture) -> None:
    assert ask(architecture, "read") == ask(architecture, "mmap") == ask(architecture, "exit_group") == ALLOWED
    assert ask(architecture, "clone", 0x3D0F00) == ask(architecture, "clone", 17) == REFUSED
    assert ask(architecture, "clone3") == ABSENT


@pytest.mark.parametrize("call", ["open", "openat"])
@given(other=st.integers(0, 2**31 - 1))
def test_files_are_opened_for_reading_only(call: str, other: int) -> None:
    for architecture in ARCHITECTURES.values():
        if call not in architecture.numbers:
            continue
        before = (0,) if call == "open" else (-100, 0)
        assert ask(architecture, call, *before, OPEN_FLAGS["O_CLOEXEC"]) == ALLOWED
        for flag in ("O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"):
            assert ask(architecture, call, *before, OPEN_FLAGS[flag]) == REFUSED
            assert ask(architecture, call, *before, OPEN_FLAGS[flag] | other) == REFUSED


def test_arguments_are_compared_in_all_64_bits(architecture: Architecture) -> None:
    assert ask(architecture, "fcntl", 3, 1) == ALLOWED  # F_GETFD
    assert ask(architecture, "fcntl", 3, 1 | 1 << 32) == REFUSED
    assert ask(architecture, "fcntl", 3, 8) == REFUSED  # F_SETOWN
    assert ask(architecture, "fcntl", 3, 10) == REFUSED  # F_SETSIG


def test_limits_may_be_read_but_not_set_nor_those_of_others(architecture: Architecture) -> None:
    assert ask(architecture, "prlimit64", 0, 7, 0, 0x7000) == ALLOWED
    assert ask(architecture, "prlimit64", 0, 7, 0x7000, 0) == REFUSED
    assert ask(architecture, "prlimit64", 1, 7, 0, 0x7000) == REFUSED


def test_sockets_come_in_connected_pairs_only(architecture: Architecture) -> None:
    assert ask(architecture, "socketpair", 1, 1, 0) == ALLOWED
    assert ask(architecture, "socketpair", 1, 2, 0) == REFUSED  # datagrams could be addressed
    assert ask(architecture, "socketpair", 2, 1, 0) == REFUSED
    assert ask(architecture, "sendto", 3, 0x7000, 5, 0, 0) == ALLOWED
    assert ask(architecture, "sendto", 3, 0x7000, 5, 0, 0x7000) == REFUSED


def test_both_tables_give_every_number_once(architecture: Architecture) -> None:
    assert len(set(architecture.numbers.values())) == len(architecture.numbers)
