// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.37;

/// @notice What a hub's wallet is held to, from one registration to the next.
struct Terms {
    /// @dev Tokens that a registered wallet must have and cannot use, in units of 10^-18 SNM.
    uint80 frozen;
    /// @dev Seconds from a registration until payday.
    uint32 period;
    /// @dev Seconds that a suspicion lasts at least before a wallet can be banned.
    uint32 suspectDelay;
    /// @dev Hours until a root that was posted can be claimed by.
    uint16 activationHours;
    /// @dev Hundredths of what is committed to devices that the hub must keep besides, until payday.
    uint8 lockPercent;
    /// @dev Thousandths of what is locked that the DAO gets at payday.
    uint16 feePerMille;
}
