/* SPDX-License-Identifier: MIT */
/*
 * The PCI host bridge of guests that have one, as a second table beside the DSDT.  Constant.
 * Addresses are those of vmm/machine/mem.h (MMIO_PCI, MMIO_ECAM): one bus, one 32-bit window.
 */
DefinitionBlock ("", "SSDT", 2, "DISCO ", "DISCOPCI", 1)
{
    Scope (\_SB)
    {
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A08"))
            Name (_CID, EisaId ("PNP0A03"))
            Name (_UID, 0)
            Name (_SEG, 0)
            Name (_BBN, 0)
            Name (_CRS, ResourceTemplate ()
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
                    0x0000, 0x0000, 0x0000, 0x0000, 0x0001)
                IO (Decode16, 0x0CF8, 0x0CF8, 1, 8)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable,
                    ReadWrite, 0x00000000, 0xC0000000, 0xDFFFFFFF, 0x00000000, 0x20000000)
            })

            /* Devices interrupt by MSI-X only. */
            Name (_PRT, Package () {})

            /* Grants control of the PCI Express capability structures and nothing else. */
            Method (_OSC, 4)
            {
                CreateDWordField (Arg3, 0, CDW1)
                If (Arg0 != ToUUID ("33db4d5b-1ff7-401c-9657-7441c03dd766"))
                {
                    CDW1 |= 0x04
                    Return (Arg3)
                }
                CreateDWordField (Arg3, 8, CDW3)
                If (Arg1 != 1)
                {
                    CDW1 |= 0x08
                }
                Local0 = CDW3 & 0x10
                If (Local0 != CDW3)
                {
                    CDW1 |= 0x10
                    CDW3 = Local0
                }
                Return (Arg3)
            }
        }

        /* Keeps everybody else off the configuration space of MCFG. */
        Device (ECAM)
        {
            Name (_HID, EisaId ("PNP0C02"))
            Name (_UID, 0)
            Name (_CRS, ResourceTemplate ()
            {
                Memory32Fixed (ReadWrite, 0xE0000000, 0x00100000)
            })
        }
    }
}
