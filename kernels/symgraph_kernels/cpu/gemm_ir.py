"""LLVM IR of the matrix product kernels of blas.py (which see): the choice between a loop nest, dot, gemv and gemm.

BLAS is column-major, and a row-major matrix is its own transpose there. So C = op(A) op(B) is asked for as
C' = op(B)' op(A)', the operands exchanged and the transposition flags as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from symgraph_kernels.cpu.blas import SMALL, TOO_LARGE, Gemm, Split, State, Table

I64, I32, I8, POINTER = ir.IntType(64), ir.IntType(32), ir.IntType(8), ir.PointerType()
INT32_MAX = 2**31 - 1


class _Callee:
    """A function pointer with its signature, which opaque pointers do not carry."""

    calling_convention = None

    def __init__(self, pointer: Any, signature: ir.FunctionType) -> None:
        self.type, self.function_type, self.get_reference = pointer.type, signature, pointer.get_reference


class Body(ir.IRBuilder):
    """An IRBuilder with loops, and constants given as Python ints."""

    def __init__(self, module: ir.Module, name: str, result: Any, args: Sequence[Any], *, internal: bool) -> None:
        self.subroutine = ir.Function(module, ir.FunctionType(result, args), name)
        if internal:
            self.subroutine.linkage = "internal"
        super().__init__(self.subroutine.append_basic_block("entry"))

    def slot(self, kind: Any) -> Any:
        with self.goto_entry_block():
            slot = self.alloca(kind)
            slot.type = POINTER
        return slot

    def as_i64(self, value: Any) -> Any:
        return ir.Constant(I64, value) if isinstance(value, int) else value

    def test(self, a: Any, relation: str, b: Any) -> Any:
        return self.icmp_signed(relation, self.as_i64(a), self.as_i64(b))

    def largest(self, a: Any, b: Any) -> Any:
        a, b = self.as_i64(a), self.as_i64(b)
        return self.select(self.icmp_signed(">", a, b), a, b)

    @contextmanager
    def count(self, start: Any, stop: Any) -> Iterator[Any]:
        """for index in range(start, stop)"""
        head, body, done = (self.append_basic_block(name) for name in ("head", "body", "done"))
        before = self.block
        self.branch(head)
        self.position_at_end(head)
        index = self.phi(I64)
        index.add_incoming(self.as_i64(start), before)
        self.cbranch(self.test(index, "<", stop), body, done)
        self.position_at_end(body)
        yield index
        following = self.add(index, self.as_i64(1))
        index.add_incoming(following, self.block)
        self.branch(head)
        self.position_at_end(done)

    def element(self, base: Any, kind: Any, index: Any) -> Any:
        return self.gep(base, [self.as_i64(index)], source_etype=kind)

    def call_address(self, word: Any, signature: ir.FunctionType, args: Sequence[Any]) -> Any:
        return self.call(_Callee(self.inttoptr(word, POINTER), signature), list(args))

    def by_reference(self, value: Any, kind: Any = I32) -> Any:
        """A pointer to a copy of a value, as Fortran wants all arguments."""
        slot = self.slot(kind)
        self.store(self.trunc(self.as_i64(value), kind) if kind in (I32, I8) else value, slot)
        return slot


def ir_text() -> str:
    module = ir.Module("symgraph_blas")
    limit, restore = _emit_threads(module)
    for name, real in (("f32", ir.FloatType()), ("f64", ir.DoubleType())):
        _emit_kernel(module, f"gemm_{name}", real, _emit_product(module, name, real), limit, restore)
    lines = str(module).splitlines()
    return "\n".join(line for line in lines if not line.startswith(("target triple", "target datalayout"))) + "\n"


def _emit_kernel(module: ir.Module, name: str, real: Any, product: Any, limit: Any, restore: Any) -> None:
    """The kernel: both batch axes around the product of two matrices."""
    body = Body(module, name, I64, [POINTER, I64, I64], internal=False)
    args, low, high = body.subroutine.args

    def word(index: int, kind: Any = I64) -> Any:
        return body.load(body.element(args, I64, index), typ=kind)

    table, threads = word(Gemm.TABLE, POINTER), word(Gemm.THREADS)
    trans_a, trans_b, lda, ldb, ldc = (word(i) for i in (Gemm.TRANS_A, Gemm.TRANS_B, Gemm.LDA, Gemm.LDB, Gemm.LDC))
    # The range is of one axis; along the other two this call has everything.
    split, zero, one = word(Gemm.SPLIT), body.as_i64(0), body.as_i64(1)
    rows, columns = body.test(split, "==", Split.ROWS), body.test(split, "==", Split.COLUMNS)
    batch = body.test(split, "==", Split.BATCH)
    part = body.sub(high, low)
    m, n = body.select(rows, part, word(Gemm.M)), body.select(columns, part, word(Gemm.N))
    row_of_a = body.select(body.test(trans_a, "!=", 0), one, lda)
    column_of_b = body.select(body.test(trans_b, "!=", 0), ldb, one)
    skipped = (
        body.select(rows, body.mul(low, row_of_a), zero),
        body.select(columns, body.mul(low, column_of_b), zero),
        body.select(rows, body.mul(low, ldc), body.select(columns, low, zero)),
    )
    first, last = body.select(batch, low, zero), body.select(batch, high, word(Gemm.OUTER))
    fixed = [trans_a, trans_b, m, n, word(Gemm.K), lda, ldb, ldc]
    alpha, beta = word(Gemm.ALPHA, real), word(Gemm.BETA, real)
    operands = [
        (body.element(word(pointer, POINTER), real, body.add(word(offset), skip)), word(outer), word(inner))
        for (pointer, offset, outer, inner), skip in zip(
            (
                (Gemm.A, Gemm.A_OFFSET, Gemm.A_OUTER, Gemm.A_INNER),
                (Gemm.B, Gemm.B_OFFSET, Gemm.B_OUTER, Gemm.B_INNER),
                (Gemm.C, Gemm.C_OFFSET, Gemm.C_OUTER, Gemm.C_INNER),
            ),
            skipped,
            strict=True,
        )
    ]
    inner_count = word(Gemm.INNER)
    limited = body.test(threads, ">", 0)
    with body.if_then(limited, likely=False):
        body.call(limit, [table, threads])
    result = body.slot(I64)
    body.store(body.as_i64(0), result)
    with body.count(first, last) as i, body.count(0, inner_count) as j:
        matrices = [
            body.element(base, real, body.add(body.mul(i, outer), body.mul(j, inner)))
            for base, outer, inner in operands
        ]
        code = body.call(product, [table, *fixed, alpha, beta, *matrices])
        body.store(body.or_(body.load(result, typ=I64), code), result)  # the same for every matrix
    with body.if_then(limited, likely=False):
        body.call(restore, [table])
    body.ret(body.load(result, typ=I64))


def _emit_product(module: ir.Module, name: str, real: Any) -> Any:
    """product(table, trans_a, trans_b, m, n, k, lda, ldb, ldc, alpha, beta, a, b, c)"""
    loops = _emit_loops(module, f"loops_{name}", real)
    zero = _emit_zero(module, f"zero_{name}", real)
    body = Body(module, f"product_{name}", I64, [POINTER, *[I64] * 8, real, real, *[POINTER] * 3], internal=True)
    table, trans_a, trans_b, m, n, k, lda, ldb, ldc, alpha, beta, a, b, c = body.subroutine.args

    def done(code: int = 0) -> None:
        body.ret(body.as_i64(code))

    with body.if_then(body.or_(body.test(m, "<=", 0), body.test(n, "<=", 0))):
        done()
    # One stored row: its leading dimension says nothing, and BLAS must be told one that it accepts.
    flag_a, flag_b = body.test(trans_a, "!=", 0), body.test(trans_b, "!=", 0)
    leading, acceptable = [], []
    for rows, columns, stride in (
        (body.select(flag_a, k, m), body.select(flag_a, m, k), lda),
        (body.select(flag_b, n, k), body.select(flag_b, k, n), ldb),
        (m, n, ldc),
    ):
        least = body.largest(columns, 1)
        used = body.select(body.test(rows, "<=", 1), least, stride)
        leading.append(used)
        acceptable.append(body.test(used, ">=", least))
    biggest = body.as_i64(0)
    for size in (m, n, k, *leading):
        biggest = body.largest(biggest, size)
    with body.if_then(body.test(biggest, ">", INT32_MAX), likely=False):
        done(TOO_LARGE)

    area = body.mul(m, n)
    small = body.and_(body.test(area, "<=", SMALL), body.test(body.mul(area, k), "<=", SMALL))
    regular = body.and_(body.and_(*acceptable[:2]), acceptable[2])
    simple = body.or_(body.or_(small, body.test(k, "<=", 0)), body.not_(regular))
    with body.if_then(simple):
        body.call(loops, [flag_a, flag_b, m, n, k, lda, ldb, ldc, alpha, beta, a, b, c])
        done()

    def function(which: Table) -> Any:
        return body.load(body.element(table, I64, which), typ=I64)

    def scalar(value: Any) -> Any:
        return body.by_reference(value, real)

    def letter(flag: Any) -> Any:
        """'T' or 'N'."""
        return body.by_reference(body.select(flag, body.as_i64(ord("T")), body.as_i64(ord("N"))), I8)

    zero_beta = body.fcmp_ordered("==", beta, ir.Constant(real, 0.0))
    row, column = body.test(m, "==", 1), body.test(n, "==", 1)
    step_a = body.select(flag_a, leading[0], body.as_i64(1))  # along k, when A is one row
    step_b = body.select(flag_b, body.as_i64(1), leading[1])  # along k, when B is one column
    step_a, step_b = (body.select(body.test(k, "==", 1), body.as_i64(1), s) for s in (step_a, step_b))

    with body.if_then(body.and_(row, column)):
        signature = ir.FunctionType(real, [POINTER] * 5)
        arguments = [body.by_reference(k), a, body.by_reference(step_a), b, body.by_reference(step_b)]
        product = body.fmul(alpha, body.call_address(function(Table.DOT), signature, arguments))
        with body.if_else(zero_beta) as (plain, adding):
            with plain:
                body.store(product, c)
            with adding:
                body.store(body.fadd(product, body.fmul(beta, body.load(c, typ=real))), c)
        done()

    gemv = ir.FunctionType(ir.VoidType(), [POINTER] * 11)

    def matrix_vector(flag: Any, rows: Any, columns: Any, matrix: Any, stride: Any, x: Any, dx: Any, dy: Any) -> None:
        """c = alpha * op(matrix) x + beta * c, where BLAS sees a column-major matrix[rows, columns]."""
        with body.if_then(zero_beta):
            # Some releases of OpenBLAS scale y by 0 here, which keeps the nan of memory never written.
            body.call(zero, [body.select(flag, columns, rows), dy, c])
        numbers = [body.by_reference(v) for v in (rows, columns, stride, dx, dy)]
        rows_at, columns_at, stride_at, dx_at, dy_at = numbers
        arguments = [letter(flag), rows_at, columns_at, scalar(alpha), matrix, stride_at]
        body.call_address(function(Table.GEMV), gemv, [*arguments, x, dx_at, scalar(beta), c, dy_at])
        done()

    with body.if_then(column):
        dy = leading[2]
        not_a = body.not_(flag_a)
        matrix_vector(not_a, body.select(flag_a, m, k), body.select(flag_a, k, m), a, leading[0], b, step_b, dy)
    with body.if_then(row):
        rows, columns = body.select(flag_b, k, n), body.select(flag_b, n, k)
        matrix_vector(flag_b, rows, columns, b, leading[1], a, step_a, body.as_i64(1))

    gemm = ir.FunctionType(ir.VoidType(), [POINTER] * 13)
    sizes = [body.by_reference(v) for v in (n, m, k, *leading)]
    n_at, m_at, k_at, lda_at, ldb_at, ldc_at = sizes
    arguments = [letter(flag_b), letter(flag_a), n_at, m_at, k_at, scalar(alpha), b, ldb_at, a, lda_at]
    body.call_address(function(Table.GEMM), gemm, [*arguments, scalar(beta), c, ldc_at])
    done()
    return body.subroutine


def _emit_zero(module: ir.Module, name: str, real: Any) -> Any:
    """zero(n, step, y)"""
    body = Body(module, name, ir.VoidType(), [I64, I64, POINTER], internal=True)
    n, step, y = body.subroutine.args
    with body.count(0, n) as i:
        body.store(ir.Constant(real, 0.0), body.element(y, real, body.mul(i, step)))
    body.ret_void()
    return body.subroutine


def _emit_loops(module: ir.Module, name: str, real: Any) -> Any:
    """loops(trans_a, trans_b, m, n, k, lda, ldb, ldc, alpha, beta, a, b, c): any strides, no BLAS."""
    flag = ir.IntType(1)
    body = Body(module, name, ir.VoidType(), [flag, flag, *[I64] * 6, real, real, *[POINTER] * 3], internal=True)
    trans_a, trans_b, m, n, k, lda, ldb, ldc, alpha, beta, a, b, c = body.subroutine.args
    for operand in (a, b, c):
        operand.add_attribute("noalias")  # A and B are only read, C is neither
    one = body.as_i64(1)
    a_row, a_step = body.select(trans_a, one, lda), body.select(trans_a, lda, one)
    b_step, b_column = body.select(trans_b, one, ldb), body.select(trans_b, ldb, one)

    def at(base: Any, i: Any, di: Any, j: Any, dj: Any) -> Any:
        return body.element(base, real, body.add(body.mul(i, di), body.mul(j, dj)))

    zero = ir.Constant(real, 0.0)
    zero_beta = body.fcmp_ordered("==", beta, zero)
    total = body.slot(real)
    with body.count(0, m) as i, body.count(0, n) as j:
        body.store(zero, total)
        with body.count(0, k) as p:
            left = body.load(at(a, i, a_row, p, a_step), typ=real)
            right = body.load(at(b, p, b_step, j, b_column), typ=real)
            body.store(body.fadd(body.load(total, typ=real), body.fmul(left, right)), total)
        product = body.fmul(alpha, body.load(total, typ=real))
        place = at(c, i, ldc, j, one)
        with body.if_else(zero_beta) as (plain, adding):
            with plain:
                body.store(product, place)
            with adding:
                body.store(body.fadd(product, body.fmul(beta, body.load(place, typ=real))), place)
    body.ret_void()
    return body.subroutine


def _emit_threads(module: ir.Module) -> tuple[Any, Any]:
    """limit(table, threads) and restore(table): the number of BLAS's threads for the time of a call.

    The number is the process's. Calls that overlap count themselves; the first sets, the last restores.
    """
    get_threads, set_threads = ir.FunctionType(I32, []), ir.FunctionType(ir.VoidType(), [I32])
    functions = []
    for name, args in (("limit", [POINTER, I64]), ("restore", [POINTER])):
        body = Body(module, name, ir.VoidType(), args, internal=True)
        state = body.load(body.element(body.subroutine.args[0], I64, Table.STATE), typ=POINTER)
        places = {word: body.element(state, I64, word) for word in State}
        getter, setter = (body.load(places[w], typ=I64) for w in (State.GET_THREADS, State.SET_THREADS))
        with body.if_then(body.test(setter, "==", 0)):
            body.ret_void()
        spin, locked = body.append_basic_block("spin"), body.append_basic_block("locked")
        body.branch(spin)
        body.position_at_end(spin)
        taken = body.atomic_rmw("xchg", places[State.LOCK], body.as_i64(1), "seq_cst")
        body.cbranch(body.test(taken, "==", 0), locked, spin)
        body.position_at_end(locked)
        depth = body.load(places[State.DEPTH], typ=I64)
        if name == "limit":
            body.store(body.add(depth, body.as_i64(1)), places[State.DEPTH])
            with body.if_then(body.test(depth, "==", 0)):
                body.store(body.sext(body.call_address(getter, get_threads, []), I64), places[State.SAVED])
                body.call_address(setter, set_threads, [body.trunc(body.subroutine.args[1], I32)])
        else:
            body.store(body.sub(depth, body.as_i64(1)), places[State.DEPTH])
            with body.if_then(body.test(depth, "==", 1)):
                body.call_address(setter, set_threads, [body.trunc(body.load(places[State.SAVED], typ=I64), I32)])
        body.atomic_rmw("xchg", places[State.LOCK], body.as_i64(0), "seq_cst")
        body.ret_void()
        functions.append(body.subroutine)
    return functions[0], functions[1]
