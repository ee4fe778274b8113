// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.37;

/// @notice Where a hub's wallet stands (SONM whitepaper, "Hub wallet contract").
enum Phase {
    /// @dev Made, and never registered.
    Created,
    /// @dev At work until payday: some is frozen, and what is committed to devices is matched by what is locked.
    Registered,
    /// @dev Nothing is frozen or locked; the owner can withdraw what no device has been promised.
    Idle,
    /// @dev The DAO looks into it: nothing moves but what was committed to devices before.
    Suspected,
    /// @dev Banned for good; what no device has been promised is the DAO's.
    Punished
}
