// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";

import {Terms} from "./Terms.sol";

/// @title The terms that the DAO sets for hubs' wallets
/// @notice The owner is the DAO: an address here, a governor later. What it changes holds for registrations from then on;
/// a wallet keeps the terms of its own registration. Defaults are those of the contracts of 2017.
contract Parameters is Ownable2Step {
    Terms private _terms = Terms({
        frozen: 1 ether, period: 30 days, suspectDelay: 120 days, activationHours: 24, lockPercent: 30, feePerMille: 5
    });

    /// @notice Other terms hold for registrations from now on.
    event TermsChanged(Terms terms);

    /// @notice A term is outside what the DAO may ask for.
    /// @param term Which one.
    error OutOfBounds(string term);

    /// @param dao Who sets the terms, suspects and bans wallets, trusts hubs and gets fees.
    constructor(address dao) Ownable(dao) {
        emit TermsChanged(_terms);
    }

    /// @notice The terms for registrations now.
    function terms() external view returns (Terms memory) {
        return _terms;
    }

    /// @notice Sets them. The bounds keep a DAO that was taken over from making wallets useless or worthless.
    /// @param wanted All terms.
    function setTerms(Terms calldata wanted) external onlyOwner {
        require(wanted.frozen >= 0.01 ether && wanted.frozen <= 1_000_000 ether, OutOfBounds("frozen"));
        require(wanted.period >= 1 days && wanted.period <= 365 days, OutOfBounds("period"));
        require(wanted.suspectDelay >= 7 days && wanted.suspectDelay <= 365 days, OutOfBounds("suspectDelay"));
        require(wanted.activationHours >= 1 && wanted.activationHours <= 30 * 24, OutOfBounds("activationHours"));
        require(uint256(wanted.activationHours) * 1 hours < wanted.period, OutOfBounds("activationHours"));
        require(wanted.lockPercent <= 100, OutOfBounds("lockPercent"));
        require(wanted.feePerMille <= 100, OutOfBounds("feePerMille"));
        _terms = wanted;
        emit TermsChanged(wanted);
    }
}
