// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title The token of the SONM whitepaper
/// @notice All tokens there will ever be are made at the start. Approvals may be given by signature (ERC-2612).
contract SNM is ERC20, ERC20Permit {
    /// @notice The whole supply, in units of 10^-18 SNM.
    uint256 public constant SUPPLY = 444_000_000 ether;

    /// @param holder Who gets all of it.
    constructor(address holder) ERC20("SONM", "SNM") ERC20Permit("SONM") {
        _mint(holder, SUPPLY);
    }
}
