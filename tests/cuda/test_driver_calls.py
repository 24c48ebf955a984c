"""The functions of the driver take what the run-time gives them.

The bindings convert arguments before they look for the driver. Where there is none, the conversion is all that happens.
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph.runtime.driver

pytest.importorskip("cuda.bindings")
from cuda.bindings import driver as d

ARRAY = np.zeros(4)
AT, THERE, STREAM = int(ARRAY.ctypes.data), 4096, 1
POINTERS = (ctypes.c_void_p * 1)()
EVENT, KERNEL, GRAPH, EXECUTABLE, MADE = d.CUevent(3), d.CUfunction(3), d.CUgraph(3), d.CUgraphExec(3), d.CUstream(3)
POOL, GPU = d.CUmemoryPool(3), d.CUdevice(0)

CALLS: dict[str, tuple[Any, ...]] = {
    "cuInit": (0,),
    "cuDeviceGet": (0,),
    "cuDeviceGetName": (128, GPU),
    "cuDeviceGetAttribute": (d.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, GPU),
    "cuDevicePrimaryCtxRetain": (GPU,),
    "cuDriverGetVersion": (),
    "cuGetErrorName": (d.CUresult.CUDA_ERROR_UNKNOWN,),
    "cuGetErrorString": (d.CUresult.CUDA_ERROR_UNKNOWN,),
    "cuCtxPushCurrent": (d.CUcontext(3),),
    "cuCtxPopCurrent": (),
    "cuCtxSynchronize": (),
    "cuMemPoolCreate": (d.CUmemPoolProps(),),
    "cuMemPoolSetAttribute": (
        POOL,
        d.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
        d.cuuint64_t(2**64 - 1),
    ),
    "cuMemAllocFromPoolAsync": (8, POOL, STREAM),
    "cuMemFreeAsync": (THERE, STREAM),
    "cuMemcpyHtoDAsync": (THERE, AT, 8, STREAM),
    "cuMemcpyDtoHAsync": (AT, THERE, 8, STREAM),
    "cuMemsetD8Async": (THERE, 0, 8, STREAM),
    "cuPointerGetAttribute": (d.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, THERE),
    "cuModuleLoadData": (AT,),
    "cuModuleGetFunction": (d.CUmodule(3), b"kernel"),
    "cuFuncGetAttribute": (d.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, KERNEL),
    "cuOccupancyMaxActiveBlocksPerMultiprocessor": (KERNEL, 128, 0),
    "cuLaunchKernel": (KERNEL, 1, 1, 1, 1, 1, 1, 0, STREAM, ctypes.addressof(POINTERS), 0),
    "cuStreamCreate": (int(d.CUstream_flags.CU_STREAM_NON_BLOCKING),),
    "cuStreamDestroy": (MADE,),
    "cuStreamSynchronize": (STREAM,),
    "cuStreamBeginCapture": (MADE, d.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED),
    "cuStreamEndCapture": (MADE,),
    "cuStreamWaitEvent": (STREAM, EVENT, 0),
    "cuGraphInstantiate": (GRAPH, 0),
    "cuGraphDestroy": (GRAPH,),
    "cuGraphLaunch": (EXECUTABLE, STREAM),
    "cuGraphExecDestroy": (EXECUTABLE,),
    "cuEventCreate": (int(d.CUevent_flags.CU_EVENT_DISABLE_TIMING),),
    "cuEventRecord": (EVENT, STREAM),
    "cuEventQuery": (EVENT,),
    "cuEventSynchronize": (EVENT,),
    "cuEventElapsedTime": (EVENT, EVENT),
    "cuEventDestroy": (EVENT,),
}


def test_the_list_is_that_of_the_run_time() -> None:
    text = Path(symgraph.runtime.driver.__file__).read_text()
    assert set(re.findall(r"(?:\bd|_driver)\.(cu[A-Z]\w+)\(", text)) | {"cuGetErrorName", "cuGetErrorString"} == set(
        CALLS
    )


@pytest.mark.parametrize("name", CALLS)
def test_arguments_are_converted(name: str) -> None:
    try:
        d.cuDriverGetVersion()
    except RuntimeError:
        with pytest.raises(RuntimeError, match="NVIDIA driver library"):
            getattr(d, name)(*CALLS[name])
    else:
        pytest.skip("there is a driver, which would be called")
