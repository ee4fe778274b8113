//! The device's money: its key's export and import, vouchers, where earnings go. It signs nothing by itself and moves
//! nothing: claims on a chain are made elsewhere, from what lies here.

pub mod keystore;
pub mod payee;
pub(crate) mod present;
pub mod voucher;
