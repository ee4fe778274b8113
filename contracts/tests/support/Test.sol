// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.37;

import {Vm, vm} from "./Vm.sol";

/// @dev What tests assert with, and what an invariant test tells Foundry. A failed assertion reverts.
abstract contract Test {
    /// @dev Foundry calls this to know what to drive.
    address[] private _targets;

    error NotEqual(string what, uint256 left, uint256 right);
    error NotEqualAddress(string what, address left, address right);
    error NotEqualBytes(string what, bytes32 left, bytes32 right);
    error NotTrue(string what);

    function assertEq(uint256 left, uint256 right, string memory what) internal pure {
        require(left == right, NotEqual(what, left, right));
    }

    function assertEq(address left, address right, string memory what) internal pure {
        require(left == right, NotEqualAddress(what, left, right));
    }

    function assertEq(bytes32 left, bytes32 right, string memory what) internal pure {
        require(left == right, NotEqualBytes(what, left, right));
    }

    function assertTrue(bool isSo, string memory what) internal pure {
        require(isSo, NotTrue(what));
    }

    /// @dev Any number, brought into a range.
    function bound(uint256 any, uint256 least, uint256 most) internal pure returns (uint256) {
        return any >= least && any <= most ? any : least + any % (most - least + 1);
    }

    function target(address what) internal {
        _targets.push(what);
    }

    function targetContracts() external view returns (address[] memory) {
        return _targets;
    }
}
