/* SPDX-License-Identifier: MIT */
/*
 * What every guest has: power-off, the console and the generic event device with the power
 * button.  Constant: nothing in it depends on the guest.  Ports and pins are those of
 * vmm/boot/boot.h (ACPI_PM_PORT, ACPI_GED_PORT, ACPI_GED_PIN, ACPI_COM1_PIN).
 */
DefinitionBlock ("", "DSDT", 2, "DISCO ", "DISCOVMM", 1)
{
    /* Sleep type 5 in the sleep control register is power-off. */
    Name (\_S5, Package () { 5, 0, 0, 0 })

    Scope (\_SB)
    {
        /* The 16550 console. */
        Device (COM1)
        {
            Name (_HID, EisaId ("PNP0501"))
            Name (_UID, 1)
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x3F8, 0x3F8, 1, 8)
                Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 4 }
            })
        }

        /* The power button. */
        Device (PWRB)
        {
            Name (_HID, EisaId ("PNP0C0C"))
            Name (_UID, 0)
        }

        /* The generic event device: reading EVT tells what happened and clears it. */
        Device (GED)
        {
            Name (_HID, "ACPI0013")
            Name (_UID, 0)
            Name (_CRS, ResourceTemplate ()
            {
                Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive) { 9 }
            })
            OperationRegion (EVTR, SystemIO, 0x604, 1)
            Field (EVTR, ByteAcc, NoLock, WriteAsZeros)
            {
                EVT, 8
            }
            Method (_EVT, 1, Serialized)
            {
                Local0 = EVT
                If (Local0 & 1)
                {
                    Notify (PWRB, 0x80)
                }
            }
        }
    }
}
