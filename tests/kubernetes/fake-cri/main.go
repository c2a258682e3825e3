// A container runtime that runs no container, on the socket it is given: with it a real kubelet becomes
// ready anywhere.
package main

import (
	"log"
	"os"

	"k8s.io/cri-client/pkg/fake"
)

func main() {
	if err := fake.NewFakeRemoteRuntime().Start("unix://" + os.Args[1]); err != nil {
		log.Fatal(err)
	}
	select {}
}
