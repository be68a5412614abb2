"""`harmowam cameras`: which RealSense cameras are connected."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from harmowam_core.results import write_json

LIBRARY_REMEDY = "pip install -c constraints.txt pyrealsense2, and apt-get install libusb-1.0-0"


def cameras(
    json: Annotated[str, typer.Option("--json", metavar="[FILE]", help="Write as JSON to FILE; without FILE to standard output.")] = "",
) -> None:
    """List the connected RealSense cameras: serial number, USB type, firmware; exit 1 if there are none."""
    console = Console(stderr=json == "-", highlight=False, soft_wrap=True)
    try:
        import pyrealsense2 as rs
    except ImportError as error:
        console.print(f"[red]pyrealsense2 cannot be imported ({error}): {LIBRARY_REMEDY}[/red]")
        raise typer.Exit(2) from error
    from harmowam_bringup.cameras.devices import list_devices

    found = list_devices(rs.context())
    if found:
        table = Table("serial", "name", "USB", "firmware", box=None, pad_edge=False)
        for device in found:
            slow = "" if device.usb.startswith("3") else " (slow: use a USB 3 port)"
            table.add_row(device.serial, device.name, device.usb + slow, device.firmware)
        console.print(table)
    else:
        console.print("No RealSense camera is connected. Plug it into a USB 3 port; inside a container, pass /dev/bus/usb and /dev/video*.")
    write_json(json, {"cameras": [dataclasses.asdict(device) for device in found]})
    raise typer.Exit(0 if found else 1)
