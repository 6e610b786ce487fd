output "foundation" {
  description = "What `verger cloud` reads from the stack."
  value       = aws_cloudformation_stack.foundation.outputs
}
