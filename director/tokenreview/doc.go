// Package tokenreview knows programs in Kubernetes by the tokens of their ServiceAccounts:
// it asks the API server of the cluster that a token is for (TokenReview) whose it is. It
// never decides what they may do, and nothing but the request that brought a token waits.
package tokenreview
