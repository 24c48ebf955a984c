"""Emitted code that walks a program's steps and splits their chunks over the thread pool. It touches no Python object.

The pool runs one job (a step's chunks) at a time. Its correctness rests on the *ticket*: one word that holds the job's
number and the next chunk to hand out. A thread reads the ticket, then the job, and takes the chunk by a
compare-and-swap of the ticket. A caller that wants to write a new job first closes the ticket. So a swap that succeeds
proves that the job it read was the current one: threads that come late, from an earlier job, cannot take part in a
later one with the wrong arguments, and nobody has to wait for them.
"""

from __future__ import annotations

from llvmlite import ir

from symgraph.runtime.native_ir import Code, Value
from symgraph.runtime.native_layout import CLOSED, STEP_WORDS, Function, Pool, Table

# About 100 microseconds: the pause between the steps of a small network, in which waking a sleeping thread would cost
# more than the step. BLAS runs with one thread, so there are no others of ours to take the core from.
SPINS = 4000


def call_chunk(code: Code, kernel: Value, args: Value, n: Value, chunk: Value, chunks: Value) -> Value:
    low = code.div(code.mul(n, chunk), chunks)
    high = code.div(code.mul(n, code.add(chunk, 1)), chunks)
    return code.call_address(kernel, args, low, high)


def emit_lock(module: ir.Module) -> dict[str, Code]:
    """The four things a pool does with its mutex and its two conditions, by name."""
    functions = {}
    for name, word in (("lock", Table.LOCK), ("unlock", Table.UNLOCK)):
        code = functions[name] = Code(module, name, 1)
        pool = code.args[0]
        code.call_address(code.get(code.get(pool, Pool.TABLE), word), code.address(pool, Pool.MUTEX))
        code.give(0)
    for name, word in (("signal", Table.SIGNAL), ("broadcast", Table.BROADCAST)):
        code = functions[name] = Code(module, name, 2)
        pool, condition = code.args
        code.call_address(code.get(code.get(pool, Pool.TABLE), word), condition)
        code.give(0)
    code = functions["wait"] = Code(module, "wait", 2)
    pool, condition = code.args
    code.call_address(code.get(code.get(pool, Pool.TABLE), Table.WAIT), condition, code.address(pool, Pool.MUTEX))
    code.give(0)
    return functions


def emit_pool(module: ir.Module) -> Code:
    """`worker(pool)`, which threads live in, and `run_job(pool, kernel, args, n, chunks)`, which is returned."""
    lock = emit_lock(module)
    available = emit_available(module)
    work = emit_work(module, lock)
    emit_worker(module, lock, available, work)
    serial = emit_serial(module)

    code = Code(module, "run_job", 5)
    pool, kernel, args, n, chunks = code.args
    with code.when(code.is_(code.get(pool, Pool.WORKERS), "==", 0)):
        code.give(code.call(serial, kernel, args, n, chunks))
    with code.when(code.builder.not_(code.atomic_swap(pool, Pool.BUSY, 0, 1))):
        code.give(code.call(serial, kernel, args, n, chunks))  # another Python thread has the pool

    job = code.shift_left(code.add(code.shift_right(code.atomic_get(pool, Pool.TICKET), 32), 1), 32)
    code.atomic_put(pool, Pool.TICKET, code.add(job, CLOSED))
    for word, value in (
        (Pool.KERNEL, kernel),
        (Pool.ARGS, args),
        (Pool.EXTENT, n),
        (Pool.CHUNKS, chunks),
        (Pool.ERROR, 0),
        (Pool.DONE, 0),
    ):
        code.atomic_put(pool, word, value)
    code.atomic_put(pool, Pool.TICKET, job)

    sleeping = code.atomic_get(pool, Pool.SLEEPING)
    with code.when(code.is_(sleeping, ">", 0)):
        code.call(lock["lock"], pool)
        condition = code.address(pool, Pool.WORK)
        with code.builder.if_else(code.is_(chunks, "==", 2)) as (one, several):
            with one:
                code.call(lock["signal"], pool, condition)
            with several:
                code.call(lock["broadcast"], pool, condition)
        code.call(lock["unlock"], pool)

    code.call(work, pool)

    spins = code.local(0)

    def keep_spinning() -> Value:
        unfinished = code.is_(code.atomic_get(pool, Pool.DONE), "<", chunks)
        return code.builder.and_(unfinished, code.is_(spins.value, "<", SPINS))

    with code.loop(keep_spinning):
        code.relax()
        spins.value = code.add(spins.value, 1)
    with code.when(code.is_(code.atomic_get(pool, Pool.DONE), "<", chunks)):
        code.call(lock["lock"], pool)
        code.atomic_put(pool, Pool.WAITING, 1)  # before DONE is read again: the last worker looks the other way round
        with code.loop(lambda: code.is_(code.atomic_get(pool, Pool.DONE), "<", chunks)):
            code.call(lock["wait"], pool, code.address(pool, Pool.DONE_COND))
        code.atomic_put(pool, Pool.WAITING, 0)
        code.call(lock["unlock"], pool)
    error = code.atomic_get(pool, Pool.ERROR)
    code.atomic_put(pool, Pool.BUSY, 0)
    code.give(error)
    return code


def emit_available(module: ir.Module) -> Code:
    """available(pool): 1 when there seems to be a chunk to take. Only a hint: `work` makes sure."""
    code = Code(module, "available", 1)
    (pool,) = code.args
    chunk = code.mask(code.atomic_get(pool, Pool.TICKET), CLOSED)
    found = code.is_(chunk, "<", code.atomic_get(pool, Pool.CHUNKS))
    code.give(code.builder.zext(found, code.const(0).type))
    return code


def emit_work(module: ir.Module, lock: dict[str, Code]) -> Code:
    """work(pool): run chunks of the current job until none is left to take."""
    code = Code(module, "work", 1)
    (pool,) = code.args
    with code.loop():
        ticket = code.atomic_get(pool, Pool.TICKET)
        kernel, args, n, chunks = (
            code.atomic_get(pool, word) for word in (Pool.KERNEL, Pool.ARGS, Pool.EXTENT, Pool.CHUNKS)
        )
        chunk = code.mask(ticket, CLOSED)
        with code.when(code.is_(chunk, ">=", chunks)):  # CLOSED is more than any number of chunks
            code.give(0)
        with code.when(code.atomic_swap(pool, Pool.TICKET, ticket, code.add(ticket, 1))):
            with code.when(code.is_(code.atomic_get(pool, Pool.ERROR), "==", 0)):
                error = call_chunk(code, kernel, args, n, chunk, chunks)
                with code.when(code.is_(error, "!=", 0), likely=False):
                    code.atomic_swap(pool, Pool.ERROR, 0, error)
            done = code.add(code.atomic_add(pool, Pool.DONE, 1), 1)
            with (
                code.when(code.is_(done, "==", chunks)),
                code.when(code.is_(code.atomic_get(pool, Pool.WAITING), "!=", 0)),
            ):
                code.call(lock["lock"], pool)
                code.call(lock["signal"], pool, code.address(pool, Pool.DONE_COND))
                code.call(lock["unlock"], pool)
    return code


def emit_worker(module: ir.Module, lock: dict[str, Code], available: Code, work: Code) -> None:
    """worker(pool): where a thread of the pool lives until STOP."""
    code = Code(module, "worker", 1, public=True)
    (pool,) = code.args

    def idle() -> Value:
        nothing = code.is_(code.call(available, pool), "==", 0)
        return code.builder.and_(nothing, code.is_(code.atomic_get(pool, Pool.STOP), "==", 0))

    with code.loop(lambda: code.is_(code.atomic_get(pool, Pool.STOP), "==", 0)):
        code.call(work, pool)
        spins = code.local(0)
        with code.loop(lambda: code.builder.and_(idle(), code.is_(spins.value, "<", SPINS))):
            code.relax()
            spins.value = code.add(spins.value, 1)
        with code.when(idle()):
            code.call(lock["lock"], pool)
            code.atomic_add(
                pool, Pool.SLEEPING, 1
            )  # before looking for work again: the caller looks the other way round
            with code.loop(idle):
                code.call(lock["wait"], pool, code.address(pool, Pool.WORK))
            code.atomic_add(pool, Pool.SLEEPING, -1)
            code.call(lock["unlock"], pool)
    code.give(0)


def emit_serial(module: ir.Module) -> Code:
    """serial(kernel, args, n, chunks): the same chunks, one after the other."""
    code = Code(module, "serial", 4)
    kernel, args, n, chunks = code.args
    with code.count(chunks) as chunk:
        error = call_chunk(code, kernel, args, n, chunk, chunks)
        with code.when(code.is_(error, "!=", 0), likely=False):
            code.give(error)
    code.give(0)
    return code


def emit_execute(module: ir.Module, run_job: Code) -> Code:
    """execute(function, frame, scratch): run all steps. Returns 0, or the kernel's error code with the number of the
    step in scratch[0]."""
    code = Code(module, "execute", 3, public=True)
    function, frame, scratch = code.args
    steps, nsteps = code.get(function, Function.STEPS), code.get(function, Function.NSTEPS)
    argwords, table = code.get(function, Function.ARGWORDS), code.get(function, Function.TABLE)
    error = code.local(0)
    with code.count(nsteps) as number:
        step = code.address(steps, code.mul(number, STEP_WORDS))
        kernel, nargs, first, extent_word, chunks_word = (code.get(step, i) for i in range(STEP_WORDS))
        n = code.get(frame, extent_word)
        with code.when(code.is_(n, ">", 0)):
            with code.count(nargs) as i:
                word = code.get(frame, code.get_index(argwords, code.add(first, i)))
                code.builder.store(word, code.pointer(code.address(scratch, i)))
            chunks = code.get(frame, chunks_word)
            with code.builder.if_else(code.is_(chunks, "<=", 1), likely=True) as (whole, split):
                with whole:
                    error.value = code.call_address(kernel, scratch, 0, n)
                with split:
                    error.value = code.call(run_job, code.get(table, Table.POOL), kernel, scratch, n, chunks)
            with code.when(code.is_(error.value, "!=", 0), likely=False):
                code.put(scratch, 0, number)
                code.give(error.value)
    code.give(0)
    return code
