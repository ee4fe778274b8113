//! `/init` of the initramfs: see [`sosna_boot::first`]. Nothing is wrapped here.

fn main() {
    sosna_boot::first::main()
}
