"""Emitted code of the entry: a METH_FASTCALL function that checks the arguments of a call, makes the frame and the
outputs, runs the steps and returns the results. One entry serves every program; what differs stands in tables.

Everything but the steps happens with the GIL held. No message is formatted here: whatever is out of the ordinary goes
to the program's `slow` or `failed`, which are Python.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from symgraph.runtime import native_layout as layout
from symgraph.runtime.native_ir import I32, I64, Code, Value
from symgraph.runtime.native_layout import Arg, Function, Out, Plan, Pool, Table

TAKES_WORD = ir.FunctionType(ir.VoidType(), [I64])
SET_ITEM = ir.FunctionType(I32, [I64] * 3)
NEW_FROM_DESCR = ir.FunctionType(I64, [I64, I64, I32, I64, I64, I64, I32, I64])
LINE = 64


def emit_entry(module: ir.Module, execute: Code) -> None:
    """entry(handle, args, nargs)"""
    bind, find_plan, fill = emit_bind(module), emit_find_plan(module), emit_fill(module)
    take, keep = emit_take_block(module), emit_keep_block(module)
    drop = emit_drop(module)
    allocate, results = emit_allocate(module, drop), emit_results(module, drop)
    as_tuple = emit_tuple(module)
    slow, failed = emit_slow(module, as_tuple), emit_failed(module, as_tuple)

    code = Code(module, "entry", 3, public=True)
    handle, args, nargs = code.args
    function = code.get_at(code.get_at(handle, layout.OBJECT_VALUE), layout.ARRAY_DATA)
    table = code.get(function, Function.TABLE)
    with code.when(code.is_(code.call(bind, function, args, nargs), "==", 0), likely=False):
        code.give(code.call(slow, function, args, nargs))
    plan = code.call(find_plan, function)
    with code.when(code.is_(plan, "==", 0), likely=False):
        code.give(code.call(slow, function, args, nargs))
    with code.when(code.is_(code.get(plan, Plan.PARALLEL), "!=", 0)):
        pool = code.get(table, Table.POOL)
        missing = code.is_(code.get(pool, Pool.WORKERS), "<", code.get(pool, Pool.WANTED))
        with code.when(missing, likely=False):
            answer = start_pool(code, table)
            with code.when(code.is_(answer, "==", 0)):
                code.give(0)
            code.call_address(code.get(table, Table.DEC_REF), answer, signature=TAKES_WORD)

    block = code.call(take, function, code.get(plan, Plan.BYTES))
    with code.when(code.is_(block, "==", 0), likely=False):
        code.give(code.call_address(code.get(table, Table.NO_MEMORY)))
    scratch = code.address(block, code.get(plan, Plan.NWORDS))
    outputs = code.address(scratch, code.get(function, Function.SCRATCH))
    code.call(fill, function, plan, block, args)
    with code.when(code.is_(code.call(allocate, function, block, scratch, outputs), "==", 0), likely=False):
        code.call(keep, function, block)
        code.give(0)

    # From here on the plan is not read: another thread may drop it as soon as the GIL is released.
    status = code.local(0)
    with code.builder.if_else(code.is_(code.get(plan, Plan.RELEASE), "==", 0)) as (held, released):
        with held:
            status.value = code.call(execute, function, block, scratch)
        with released:
            state = code.call_address(code.get(table, Table.SAVE_THREAD))
            status.value = code.call(execute, function, block, scratch)
            code.call_address(code.get(table, Table.RESTORE_THREAD), state, signature=TAKES_WORD)

    with code.when(code.is_(status.value, "!=", 0), likely=False):
        step = code.get(scratch, 0)
        code.call(drop, function, outputs, code.get(function, Function.NOUTS))
        code.call(keep, function, block)
        code.give(code.call(failed, function, step, status.value, args, nargs))
    result = code.call(results, function, outputs, args)
    code.call(keep, function, block)
    code.give(result)


def start_pool(code: Code, table: Value) -> Value:
    """Call the Python function that starts the pool's threads."""
    return code.call_address(code.get(table, Table.CALL), code.get(table, Table.START_POOL), 0)


def emit_bind(module: ir.Module) -> Code:
    """bind(function, args, nargs): 1 when every argument is as the program wants it; the dim values are then set."""
    code = Code(module, "bind", 3)
    function, args, nargs = code.args
    check = emit_check_array(module)
    scalar = emit_check_scalar(module)
    with code.when(code.is_(nargs, "!=", code.get(function, Function.NARGS)), likely=False):
        code.give(0)
    table, specs = code.get(function, Function.TABLE), code.get(function, Function.ARGS)
    dims, array_type = code.get(function, Function.DIMS), code.get(table, Table.ARRAY_TYPE)
    with code.count(nargs) as i:
        spec = code.address(specs, code.mul(i, len(Arg)))
        value = code.get(args, i)
        ok = code.local(0)
        is_array = code.is_(code.get_at(value, layout.OBJECT_TYPE), "==", array_type)
        with code.builder.if_else(is_array, likely=True) as (array, other):
            with array:
                ok.value = code.call(check, spec, value, dims)
            with other:
                ok.value = code.call(scalar, table, spec, value)
        with code.when(code.is_(ok.value, "==", 0), likely=False):
            code.give(0)
    code.give(1)
    return code


def emit_check_scalar(module: ir.Module) -> Code:
    """check_scalar(table, spec, object): a Python float or numpy.float64 for a float64 of rank 0."""
    code = Code(module, "check_scalar", 3)
    table, spec, value = code.args
    with code.when(code.is_(code.get(spec, Arg.SCALAR), "==", 0)):
        code.give(0)
    kind = code.get_at(value, layout.OBJECT_TYPE)
    fits = code.builder.or_(
        code.is_(kind, "==", code.get(table, Table.FLOAT_TYPE)),
        code.is_(kind, "==", code.get(table, Table.FLOAT64_TYPE)),
    )
    code.give(code.builder.zext(fits, I64))
    return code


def emit_check_array(module: ir.Module) -> Code:
    """check_array(spec, array, dims): dtype, rank, flags and sizes of one array; defines or compares its dims."""
    code = Code(module, "check_array", 3)
    spec, array, dims = code.args

    def refuse_unless(condition: Value) -> None:
        with code.when(code.builder.not_(condition), likely=False):
            code.give(0)

    descr = code.get_at(array, layout.ARRAY_DESCR)
    number = code.get_at(descr, layout.DESCR_TYPE, I32)
    refuse_unless(
        code.builder.or_(
            code.is_(number, "==", code.get(spec, Arg.TYPE)), code.is_(number, "==", code.get(spec, Arg.ALIAS))
        )
    )
    refuse_unless(code.is_(code.get_at(descr, layout.DESCR_BYTEORDER, ir.IntType(8)), "!=", ord(">")))
    ndim = code.get(spec, Arg.NDIM)
    refuse_unless(code.is_(code.get_at(array, layout.ARRAY_NDIM, I32), "==", ndim))
    wanted = code.get(spec, Arg.FLAGS)
    flags = code.get_at(array, layout.ARRAY_FLAGS, I32)
    refuse_unless(code.is_(code.mask(flags, wanted), "==", wanted))
    shape, axes = code.get_at(array, layout.ARRAY_SHAPE), code.get(spec, Arg.AXES)
    with code.count(ndim) as axis:
        size = code.get(shape, axis)
        pair = code.address(axes, code.mul(axis, 2))
        kind, value = code.get(pair, 0), code.get(pair, 1)
        with code.builder.if_else(code.is_(kind, "==", 0)) as (constant, symbolic):
            with constant:
                refuse_unless(code.is_(size, "==", value))
            with symbolic:
                with code.when(code.is_(kind, "==", 1)):
                    code.put(dims, value, size)
                refuse_unless(code.is_(size, "==", code.get(dims, value)))
    code.give(1)
    return code


def emit_find_plan(module: ir.Module) -> Code:
    """find_plan(function): the plan for the dim values just bound, moved to the front; 0 when there is none."""
    code = Code(module, "find_plan", 1)
    (function,) = code.args
    dims, ndims = code.get(function, Function.DIMS), code.get(function, Function.NDIMS)
    before, plan = code.local(0), code.local(code.get(function, Function.PLAN))
    same = code.local(0)
    with code.loop(lambda: code.is_(plan.value, "!=", 0)):
        known = code.get(plan.value, Plan.DIMS)
        same.value = 1
        with code.count(ndims) as i:
            equal = code.is_(code.get(dims, i), "==", code.get(known, i))
            same.value = code.mask(same.value, code.builder.zext(equal, I64))
        with code.when(code.is_(same.value, "!=", 0)):
            with code.when(code.is_(before.value, "!=", 0)):
                code.put(before.value, Plan.NEXT, code.get(plan.value, Plan.NEXT))
                code.put(plan.value, Plan.NEXT, code.get(function, Function.PLAN))
                code.put(function, Function.PLAN, plan.value)
            code.give(plan.value)
        before.value = plan.value
        plan.value = code.get(plan.value, Plan.NEXT)
    code.give(0)
    return code


def emit_take_block(module: ir.Module) -> Code:
    """take_block(function, bytes): 64-byte-aligned memory, the block that the function keeps when it is large enough.

    The two words before a block are the address to free and its size in bytes.
    """
    code = Code(module, "take_block", 2)
    function, size = code.args
    table = code.get(function, Function.TABLE)
    kept = code.get(function, Function.BLOCK)
    with code.when(code.is_(kept, "!=", 0), likely=True):
        code.put(function, Function.BLOCK, 0)
        with code.when(code.is_(code.get(kept, -1), ">=", size), likely=True):
            code.give(kept)
        code.call_address(code.get(table, Table.FREE), code.get(kept, -2), signature=TAKES_WORD)
    start = code.call_address(code.get(table, Table.MALLOC), code.add(size, 2 * LINE))
    with code.when(code.is_(start, "==", 0), likely=False):
        code.give(0)
    block = code.mask(code.add(start, 2 * LINE - 1), -LINE)
    code.put(block, -2, start)
    code.put(block, -1, size)
    code.give(block)
    return code


def emit_keep_block(module: ir.Module) -> Code:
    """keep_block(function, block): the function keeps the larger of this block and the one it has."""
    code = Code(module, "keep_block", 2)
    function, block = code.args
    free = code.get(code.get(function, Function.TABLE), Table.FREE)
    kept = code.get(function, Function.BLOCK)
    with code.when(code.is_(kept, "!=", 0), likely=False):
        with code.when(code.is_(code.get(kept, -1), ">=", code.get(block, -1))):
            code.call_address(free, code.get(block, -2), signature=TAKES_WORD)
            code.give(0)
        code.call_address(free, code.get(kept, -2), signature=TAKES_WORD)
    code.put(function, Function.BLOCK, block)
    code.give(0)
    return code


def emit_fill(module: ir.Module) -> Code:
    """fill(function, plan, block, args): the frame: template, arena addresses, argument pointers."""
    code = Code(module, "fill", 4)
    function, plan, frame, args = code.args
    template = code.get(plan, Plan.TEMPLATE)
    with code.count(code.get(plan, Plan.NWORDS)) as i:
        code.put(frame, i, code.get(template, i))
    arena = code.add(frame, code.get(plan, Plan.HEAD))
    relocations = code.get(plan, Plan.RELOCATIONS)
    with code.count(code.get(plan, Plan.NRELOCATIONS)) as i:
        word = code.get(relocations, i)
        code.put(frame, word, code.add(code.get(frame, word), arena))
    array_type = code.get(code.get(function, Function.TABLE), Table.ARRAY_TYPE)
    specs = code.get(function, Function.ARGS)
    with code.count(code.get(function, Function.NARGS)) as i:
        word = code.get(code.address(specs, code.mul(i, len(Arg))), Arg.WORD)
        with code.when(code.is_(word, ">=", 0)):
            value = code.get(args, i)
            is_array = code.is_(code.get_at(value, layout.OBJECT_TYPE), "==", array_type)
            data = code.builder.select(
                is_array, code.get_at(value, layout.ARRAY_DATA), code.add(value, layout.OBJECT_VALUE)
            )
            code.put(frame, word, data)
    code.give(0)
    return code


def emit_drop(module: ir.Module) -> Code:
    """drop(function, outputs, count): release the first `count` outputs."""
    code = Code(module, "drop", 3)
    function, outputs, count = code.args
    release = code.get(code.get(function, Function.TABLE), Table.DEC_REF)
    with code.count(count) as i:
        code.call_address(release, code.get(outputs, i), signature=TAKES_WORD)
    code.give(0)
    return code


def emit_allocate(module: ir.Module, drop: Code) -> Code:
    """allocate(function, frame, scratch, outputs): new arrays for all outputs; 0 with an exception set on failure."""
    code = Code(module, "allocate", 4)
    function, frame, scratch, outputs = code.args
    table, specs = code.get(function, Function.TABLE), code.get(function, Function.OUTS)
    new, retain = code.get(table, Table.NEW_FROM_DESCR), code.get(table, Table.INC_REF)
    array_type = code.get(table, Table.ARRAY_TYPE)
    with code.count(code.get(function, Function.NOUTS)) as i:
        spec = code.address(specs, code.mul(i, len(Out)))
        ndim, sizes, descr = code.get(spec, Out.NDIM), code.get(spec, Out.SIZES), code.get(spec, Out.DESCR)
        with code.count(ndim) as axis:
            code.put(scratch, axis, code.get(frame, code.get(sizes, axis)))
        code.call_address(retain, descr, signature=TAKES_WORD)  # NewFromDescr takes the reference
        array = code.call_address(new, array_type, descr, ndim, scratch, 0, 0, 0, 0, signature=NEW_FROM_DESCR)
        with code.when(code.is_(array, "==", 0), likely=False):
            code.call(drop, function, outputs, i)
            code.give(0)
        code.put(outputs, i, array)
        word = code.get(spec, Out.WORD)
        with code.when(code.is_(word, ">=", 0)):
            code.put(frame, word, code.get_at(array, layout.ARRAY_DATA))
    code.give(1)
    return code


def emit_results(module: ir.Module, drop: Code) -> Code:
    """results(function, outputs, args): the object to return. Takes the references in `outputs`."""
    code = Code(module, "results", 3)
    function, outputs, args = code.args
    table, count = code.get(function, Function.TABLE), code.get(function, Function.NRETURNS)
    returns, retain = code.get(function, Function.RETURNS), code.get(table, Table.INC_REF)
    nouts = code.get(function, Function.NOUTS)

    def item(index: Value) -> Value:
        """A new reference to output `index` or argument -1 - `index`."""
        is_output = code.is_(index, ">=", 0)
        base = code.builder.select(is_output, outputs, args)
        value = code.get(base, code.builder.select(is_output, index, code.sub(-1, index)))
        code.call_address(retain, value, signature=TAKES_WORD)
        return value

    # The usual case first: one output, returned.
    only = code.builder.and_(code.is_(count, "==", -1), code.is_(nouts, "==", 1))
    with (
        code.when(only, likely=True),
        code.when(code.is_(code.get(returns, 0), "==", 0), likely=True),
    ):
        code.give(code.get(outputs, 0))
    result = code.local(0)
    with code.when(code.is_(count, "==", -1)):
        result.value = item(code.get(returns, 0))
    with code.when(code.is_(count, "==", -2)):
        result.value = code.get(table, Table.NONE)
        code.call_address(retain, result.value, signature=TAKES_WORD)
    with code.when(code.is_(count, ">=", 0)):
        result.value = code.call_address(code.get(table, Table.LIST_NEW), count)
        with code.when(code.is_(result.value, "!=", 0), likely=True), code.count(count) as i:
            value = item(code.get(returns, i))
            code.call_address(code.get(table, Table.LIST_SET), result.value, i, value, signature=SET_ITEM)
    code.call(drop, function, outputs, nouts)
    code.give(result.value)
    return code


def emit_tuple(module: ir.Module) -> Code:
    """as_tuple(table, args, nargs): the arguments as a new tuple, or 0."""
    code = Code(module, "as_tuple", 3)
    table, args, nargs = code.args
    result = code.call_address(code.get(table, Table.TUPLE_NEW), nargs)
    with code.when(code.is_(result, "==", 0), likely=False):
        code.give(0)
    with code.count(nargs) as i:
        value = code.get(args, i)
        code.call_address(code.get(table, Table.INC_REF), value, signature=TAKES_WORD)
        set_tuple(code, table, result, i, value)
    code.give(result)
    return code


def set_tuple(code: Code, table: Value, target: Value, index: Value, value: Value) -> None:
    code.call_address(code.get(table, Table.TUPLE_SET), target, index, value, signature=SET_ITEM)


def emit_slow(module: ir.Module, as_tuple: Code) -> Code:
    """slow(function, args, nargs): what the Python callable SLOW returns for the tuple of arguments."""
    code = Code(module, "slow", 3)
    function, args, nargs = code.args
    table = code.get(function, Function.TABLE)
    values = code.call(as_tuple, table, args, nargs)
    with code.when(code.is_(values, "==", 0), likely=False):
        code.give(0)
    result = code.call_address(code.get(table, Table.CALL_ONE), code.get(function, Function.SLOW), values)
    code.call_address(code.get(table, Table.DEC_REF), values, signature=TAKES_WORD)
    code.give(result)
    return code


def emit_failed(module: ir.Module, as_tuple: Code) -> Code:
    """failed(function, step, error, args, nargs): call the Python callable FAILED(step, error, args), which raises."""
    code = Code(module, "failed", 5)
    function, step, error, args, nargs = code.args
    table = code.get(function, Function.TABLE)
    number, dec_ref = code.get(table, Table.LONG), code.get(table, Table.DEC_REF)
    items: list[Callable[[], Value]] = [
        lambda: code.call_address(number, step),
        lambda: code.call_address(number, error),
        lambda: code.call(as_tuple, table, args, nargs),
    ]
    values = code.call_address(code.get(table, Table.TUPLE_NEW), len(items))
    with code.when(code.is_(values, "==", 0), likely=False):
        code.give(0)
    for i, make in enumerate(items):
        item = make()
        with code.when(code.is_(item, "==", 0), likely=False):
            code.call_address(dec_ref, values, signature=TAKES_WORD)
            code.give(0)
        set_tuple(code, table, values, i, item)
    result = code.call_address(code.get(table, Table.CALL), code.get(function, Function.FAILED), values)
    code.call_address(dec_ref, values, signature=TAKES_WORD)
    code.give(result)
    return code


def emit_link(module: ir.Module) -> None:
    """link(function, plan): put a plan in front. Native, since the list also changes natively, under the GIL."""
    code = Code(module, "link", 2, public=True)
    function, plan = code.args
    code.put(plan, Plan.NEXT, code.get(function, Function.PLAN))
    code.put(function, Function.PLAN, plan)
    code.give(0)


def emit_release(module: ir.Module) -> None:
    """release(function): free the block kept for the next call."""
    code = Code(module, "release", 1, public=True)
    (function,) = code.args
    kept = code.get(function, Function.BLOCK)
    with code.when(code.is_(kept, "!=", 0)):
        code.put(function, Function.BLOCK, 0)
        free = code.get(code.get(function, Function.TABLE), Table.FREE)
        code.call_address(free, code.get(kept, -2), signature=TAKES_WORD)
    code.give(0)
